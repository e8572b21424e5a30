//! Scripts through the planner: a view in, a plan out.

mod cluster;
mod steps;
