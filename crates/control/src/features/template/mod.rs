//! The template planner: from services and keys to files that a program has loaded.
