//! The Redis toolbox.
