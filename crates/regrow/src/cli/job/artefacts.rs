use super::text::{columns, plain};
use crate::cli::store::size;
use crate::client::{Client, escaped};
use crate::exit::{Failure, print, print_bytes, print_json, say};
use clap::Args;
use regrow_model::RunId;
use regrow_serve::jobs::wire::ArtefactLine;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// List the files that a run has left, or get one
///
/// A run leaves files for people, as reports, in the folder that its environment names as REGROW_ARTEFACTS.
///
/// Examples:
///   regrow job artefacts 00j3k9qa2m4x7t1z
///   regrow job artefacts 00j3k9qa2m4x7t1z report.html -o report.html
///   regrow job artefacts 00j3k9qa2m4x7t1z dump.sql.gz | zcat | less
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Artefacts {
    /// The run
    #[arg(value_name = "RUN")]
    run: RunId,
    /// The file to get, as it is listed. Without it they are listed
    #[arg(value_name = "FILE")]
    name: Option<String>,
    /// Write it into a new file instead of to stdout
    #[arg(long, short, value_name = "PATH", requires = "name")]
    output: Option<PathBuf>,
    /// JSON instead of text, for the list
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

impl Artefacts {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let Some(name) = self.name else {
            let list: Vec<ArtefactLine> = client.get(&format!("/api/runs/{}/artefacts", self.run)).await?;
            if self.json {
                return print_json(&list);
            }
            if list.is_empty() {
                say(format!("run {} has left no files", self.run));
                return Ok(());
            }
            let rows: Vec<Vec<String>> = list.iter().map(|line| vec![plain(&line.name), size(line.size)]).collect();
            return print(&columns(&["FILE", "SIZE"], &rows));
        };
        let path = format!("/api/runs/{}/artefact?name={}", self.run, escaped(&name));
        let Some(output) = self.output else {
            return client.bytes(&path, print_bytes).await;
        };
        let wrong = |error| Failure::failed(format!("cannot write {}: {error}", output.display()));
        let mut file = None;
        let told = client.bytes(&path, |bytes| {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(File::create_new(&output).map_err(wrong)?),
            };
            file.write_all(bytes).map_err(wrong)
        });
        let told = told.await;
        if told.is_err() && file.is_some() {
            let _ = std::fs::remove_file(&output);
        }
        told?;
        match file {
            Some(file) => file.sync_all().map_err(wrong),
            // It has no bytes.
            None => File::create_new(&output).map(drop).map_err(wrong),
        }
    }
}
