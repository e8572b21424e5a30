//! The group planner in a small world.

mod change;
mod heal;
mod property;
mod size;
