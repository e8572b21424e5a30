//! The front doors: wire formats, no decisions.
