use super::super::Target;
use crate::exit::{Failure, print, print_json};
use crate::keys::{self, Facts, Folder, certificates, day, facts, now, revoked_serials};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;

/// List the certificates of this data folder, and what was signed here, with their ends
///
/// Examples:
///   regrow key ls
///   regrow key ls --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Ls {
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A certificate, as it is listed.
#[derive(Debug, Serialize)]
struct Line {
    /// `authority`, `node` or `client`.
    kind: &'static str,
    name: String,
    /// A client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    serial: String,
    from: String,
    until: String,
    state: &'static str,
    /// Whether it is what this node shows now, or the authority that signs now.
    current: bool,
    names: Vec<String>,
}

impl Ls {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        let lines = lines(&super::folder(target)?)?;
        if self.json {
            return print_json(&lines);
        }
        let mut rows = vec![["KIND", "NAME", "ROLE", "UNTIL", "STATE", "SERIAL"].map(str::to_owned)];
        rows.extend(lines.into_iter().map(|line| {
            let role = line.role.unwrap_or_else(|| "-".to_owned());
            let state = if line.current { format!("{}, in use", line.state) } else { line.state.to_owned() };
            [line.kind.to_owned(), line.name, role, line.until, state, line.serial]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        let text = rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
            cells.collect::<String>().trim_end().to_owned() + "\n"
        });
        print(&text.collect::<String>())
    }
}

fn lines(folder: &Folder) -> Result<Vec<Line>, Failure> {
    let (revoked, _) = revoked_serials(&folder.path(keys::CRL))?;
    let mut seen = BTreeSet::new();
    let mut found: Vec<(bool, Facts)> = Vec::new();
    for file in [keys::CA, keys::NODE].map(|file| folder.path(file)).into_iter().chain(folder.issued()) {
        if !file.exists() {
            continue;
        }
        for (place, certificate) in certificates(&file)?.iter().enumerate() {
            let facts = facts(certificate)?;
            if seen.insert(facts.serial.clone()) {
                let own = [keys::CA, keys::NODE].iter().any(|name| file.ends_with(name));
                found.push((own && place == 0, facts));
            }
        }
    }
    // The file of what was signed has no order of its own: nodes first, then clients, each by name and end.
    found.sort_by_key(|(current, facts)| {
        let rank = match facts.unit.as_str() {
            keys::AUTHORITY => 0,
            regrow_serve::access::NODE => 1,
            _ => 2,
        };
        (rank, facts.subject.clone(), !current, facts.until)
    });
    let line = |(current, facts): (bool, Facts)| {
        let state = facts.state(now(), &revoked).as_str();
        let (kind, role) = match facts.unit.as_str() {
            keys::AUTHORITY => ("authority", None),
            regrow_serve::access::NODE => ("node", None),
            role => ("client", Some(role.to_owned())),
        };
        let (from, until) = (day(facts.from), day(facts.until));
        Line { kind, name: facts.subject, role, serial: facts.serial, from, until, state, current, names: facts.names }
    };
    Ok(found.into_iter().map(line).collect())
}
