use crate::exit::{Failure, print_json};
use clap::Args;

/// Print the JSON Schema of the spec, for editors
///
/// Example:
///   regrow schema > regrow.schema.json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        print_json(&regrow_model::spec::schema())
    }
}
