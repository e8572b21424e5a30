//! The planners, the governor, explain, and the rules of the runtime.
