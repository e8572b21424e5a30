//! The world: files, processes, exec, checks. Interprets actions, decides nothing.
