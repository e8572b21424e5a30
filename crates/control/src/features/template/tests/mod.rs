//! Scripts through the planner, a view in and a plan out; and sources through the renderer.

mod cluster;
mod confd;
mod hostile;
mod jinja;
mod steps;
