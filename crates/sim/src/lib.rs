//! A whole cluster in one thread with virtual time, disk and world.
