//! The group planner: keeps groups at their size, and changes them a step at a time.
