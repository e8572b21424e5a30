//! Specs as users write them, good and bad: what `regrow_model::spec::load` says to them.

mod bounds;
mod guides;
mod mutation;
mod schema;
mod scripts;
mod values;
