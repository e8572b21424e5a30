//! The JSON Schema of a spec, made from the types of this module and their docs.
//!
//! It is two things at once: what `regrow schema` prints for editors, and what [`super::shape`] reads files by, so that
//! the two cannot disagree.

use super::Spec;
use serde_json::Value;

/// The JSON Schema (draft 2020-12) of `regrow.yaml`, for editors and other tools.
///
/// It says what a file looks like, not all that [`super::load`] checks: references between objects, for one, are beyond
/// it. And it is a little stricter in one point: a bare number or `true` where text is wanted (`command: [serve, 80]`)
/// is taken as it was written by [`super::load`].
pub fn schema() -> Value {
    schemars::schema_for!(Spec).to_value()
}
