//! The planners, one folder a noun.
//!
//! Each gets the whole view and no hint of what changed, has no memory, and leaves no choice to whoever carries its
//! plan out. What must be remembered is a record.

pub mod group;
pub mod instance;
pub mod service;
pub mod template;
