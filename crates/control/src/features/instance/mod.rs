//! The instance planner: starts and stops what is assigned to a node.
