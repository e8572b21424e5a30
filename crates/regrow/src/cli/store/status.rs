//! `store status`.

use super::size;
use crate::exit::{Code, Failure, print, print_json};
use crate::reach::{Reach, failed};
use clap::Args;
use regrow_store::{Member, MemberStatus, Remote, Store};
use serde::Serialize;

/// Show how the store is: its size, its history, and each member
///
/// "behind" is by how many revisions a member lags behind the store. The code
/// is 5 where a member does not answer, and 1 where one has an alarm.
///
/// Examples:
///   regrow store status
///   regrow store status --store http://10.0.0.1:2379 --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Status {
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// What is told.
#[derive(Serialize)]
struct Report {
    revision: i64,
    /// The oldest revision that can be read.
    compacted_revision: i64,
    keys: u64,
    leases: usize,
    bytes: u64,
    bytes_in_use: u64,
    /// 0: the store does not tell.
    quota_bytes: u64,
    no_space: bool,
    members: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    leader: bool,
    learner: bool,
    revision: i64,
    /// Revisions that it has not got yet.
    behind: i64,
    bytes: u64,
    bytes_in_use: u64,
    alarms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Status {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        // The members first: what they have then, the store has too.
        let members = store.members().await;
        let status = store.status().await.map_err(failed)?;
        let leases = store.leases().await.map_err(failed)?.leases.len();
        let oldest = store.oldest().await.map_err(failed)?;
        let told = members.iter().filter_map(|member| member.answer.as_ref().ok());
        let furthest = told.clone().map(|member| member.revision.0).max().unwrap_or(0);
        let report = Report {
            revision: status.revision.0,
            compacted_revision: oldest.0,
            keys: status.keys,
            leases,
            bytes: status.db_size,
            bytes_in_use: status.db_size_in_use,
            quota_bytes: told.map(|member| member.quota).max().unwrap_or(0),
            no_space: status.no_space,
            members: members.into_iter().map(|member| line(member, furthest)).collect(),
        };
        match self.json {
            true => print_json(&report)?,
            false => print(&text(&report))?,
        }
        let at = |found: &Line| found.endpoint.clone();
        if let Some(found) = report.members.iter().find(|member| !member.alarms.is_empty()) {
            return Err(Failure::failed(format!("{} has an alarm: {}", at(found), found.alarms.join(", "))));
        }
        match report.members.iter().find_map(|member| Some((at(member), member.error.as_ref()?))) {
            Some((at, error)) => Err(Failure::new(Code::Unreachable, format!("{at} does not answer: {error}"))),
            None => Ok(()),
        }
    }
}

fn line(member: Member, furthest: i64) -> Line {
    let (status, error) = match member.answer {
        Ok(status) => (status, None),
        Err(error) => (MemberStatus::default(), Some(error)),
    };
    Line {
        endpoint: member.endpoint,
        id: error.is_none().then(|| format!("{:x}", status.id)),
        behind: if error.is_none() { furthest - status.revision.0 } else { 0 },
        name: status.name,
        version: status.version,
        leader: status.leads,
        learner: status.learner,
        revision: status.revision.0,
        bytes: status.db_size,
        bytes_in_use: status.db_size_in_use,
        alarms: status.alarms,
        error,
    }
}

fn text(report: &Report) -> String {
    let quota = if report.quota_bytes > 0 { format!(" of {}", size(report.quota_bytes)) } else { String::new() };
    let full = if report.no_space { ", full: puts are refused" } else { "" };
    let mut text = format!(
        "revision  {} (from {} on)\nkeys      {}\nleases    {}\nin use    {}{quota}{full}\n\n",
        report.revision,
        report.compacted_revision,
        report.keys,
        report.leases,
        size(report.bytes_in_use),
    );
    let head = ["endpoint", "name", "version", "role", "revision", "behind", "on disk", "alarms"].map(str::to_owned);
    let rows = report.members.iter().map(|member| {
        let role = if member.leader {
            "leader"
        } else if member.learner {
            "learner"
        } else {
            "follower"
        };
        let alarms = if member.alarms.is_empty() { "-".to_owned() } else { member.alarms.join(", ") };
        match &member.error {
            Some(error) => {
                let dash = || "-".to_owned();
                [member.endpoint.clone(), dash(), dash(), dash(), dash(), dash(), dash(), format!("no answer: {error}")]
            }
            None => [
                member.endpoint.clone(),
                member.name.clone(),
                member.version.clone(),
                role.to_owned(),
                member.revision.to_string(),
                member.behind.to_string(),
                size(member.bytes),
                alarms,
            ],
        }
    });
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_store::Revision;

    /// A member that lags and one that does not answer are told from the leader; columns stand below each other.
    #[test]
    fn members_are_told_apart() {
        let member = |endpoint: &str, answer| Member { endpoint: endpoint.to_owned(), answer };
        let status = |name: &str, leads, revision| MemberStatus {
            name: name.to_owned(),
            version: "3.5.16".to_owned(),
            leads,
            revision: Revision(revision),
            db_size: 20_480,
            ..MemberStatus::default()
        };
        let members = [
            member("http://a:1", Ok(status("m0", true, 90))),
            member("http://b:1", Ok(status("m1", false, 87))),
            member("http://c:1", Err("refused".to_owned())),
        ];
        let report = Report {
            revision: 91,
            compacted_revision: 1,
            keys: 7,
            leases: 2,
            bytes: 20_480,
            bytes_in_use: 10_240,
            quota_bytes: 2 << 30,
            no_space: false,
            members: members.into_iter().map(|member| line(member, 90)).collect(),
        };
        let expect = "\
revision  91 (from 1 on)
keys      7
leases    2
in use    10.0 KiB of 2.0 GiB

endpoint    name  version  role      revision  behind  on disk   alarms
http://a:1  m0    3.5.16   leader    90        0       20.0 KiB  -
http://b:1  m1    3.5.16   follower  87        3       20.0 KiB  -
http://c:1  -     -        -         -         -       -         no answer: refused
";
        assert_eq!(text(&report), expect);
    }
}
