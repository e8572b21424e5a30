use super::Target;
use crate::bundle;
use crate::exit::{Failure, print, print_json};
use clap::Args;
use regrow_control::apply::{Difference, Verb};
use regrow_serve::wire::Applied;
use std::fmt::Write;
use std::path::PathBuf;

/// Print what would be done and why, without doing it
///
/// With a spec: what applying it would change, and what would be done first.
/// Without: what would be done now.
///
/// Examples:
///   regrow plan
///   regrow plan regrow.yaml
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Plan {
    /// The spec: a file, or a folder with *.yaml files
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let planned: Applied = match &self.file {
            Some(file) => {
                let bundle = bundle::read(file)?;
                target.client()?.post("/api/plan", &bundle).await?
            }
            None => target.client()?.get("/api/plan").await?,
        };
        print_plan(&planned, self.json)
    }
}

/// Prints a plan.
pub(super) fn print_plan(planned: &Applied, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(planned);
    }
    let mut out = differences(&planned.differences);
    if !planned.actions.is_empty() {
        out.push_str(if out.is_empty() { "To do now:\n" } else { "\nTo do first:\n" });
    }
    for action in &planned.actions {
        let _ = writeln!(out, "  {:<8} {:<24} {}", action.verb, action.object, action.why);
    }
    if !planned.held.is_empty() {
        out.push_str(if out.is_empty() { "Held back:\n" } else { "\nHeld back:\n" });
    }
    for held in &planned.held {
        let _ = writeln!(out, "  {:<24} {}: {}", held.object, held.what, held.why);
    }
    print(if out.is_empty() { "Nothing to do: everything is as wanted.\n" } else { &out })
}

/// What a change of the spec changes, as text.
pub(super) fn differences(all: &[Difference]) -> String {
    let mut out = String::new();
    for difference in all {
        let sign = match difference.verb {
            Verb::Create => '+',
            Verb::Update => '~',
            Verb::Remove => '-',
        };
        let _ = writeln!(out, "{sign} {}", difference.object);
        for field in &difference.fields {
            let _ = writeln!(out, "    {field}");
        }
    }
    out
}
