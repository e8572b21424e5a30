//! The governor: the bounds on everything that changes the world.
