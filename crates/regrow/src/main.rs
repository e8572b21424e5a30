//! The `regrow` binary.
fn main() {}
