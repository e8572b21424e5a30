//! `store move`.

use super::size;
use crate::config::{Endpoints, data_folder};
use crate::exit::{Code, Failure, print_json, say};
use crate::progress;
use crate::reach::{Reach, failed};
use crate::runtime::STORE_SOCKET;
use clap::Args;
use regrow_store::Remote;
use regrow_store::relocate::{MoveError, Mover, Place, Progress};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;

/// Move the store to another place while it is in use
///
/// Copies the store, follows what is written, verifies key by key, holds writes
/// for a moment, and switches the agents. Until that one decisive write the
/// store is where it was, whatever dies; begun again, it goes on with what is
/// there. `--to hosted` moves it to the agent whose data folder is used: also
/// back from an etcd cluster.
///
/// Examples:
///   regrow store move --to http://10.0.0.1:2379,http://10.0.0.2:2379 --dry-run
///   regrow store move --to http://10.0.0.1:2379,http://10.0.0.2:2379
///   regrow store move --to hosted
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Move {
    /// Where to: an etcd cluster's endpoints, or `hosted`
    #[arg(long, value_name = "URL[,URL]|hosted")]
    to: String,
    /// Look at both places and say what would be done; do nothing
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Move {
    pub(super) async fn run(&self, source: &Remote, data: Option<&Path>) -> Result<(), Failure> {
        let (target, to) = self.target(data)?;
        let urls = to.urls.join(",");
        let mover = Mover::new(source.clone(), target, to, uuid()?, who());
        if self.dry_run {
            let check = mover.check().await.map_err(refused)?;
            if self.json {
                return print_json(&json!({
                    "to": urls, "dry_run": true, "revision": check.revision.0, "keys": check.keys, "bytes": check.bytes,
                    "leases": check.leases, "target_revision": check.target_revision.0, "raise": check.raise,
                    "resumed": check.resumed,
                }));
            }
            let resumed = if check.resumed { ", going on with the copy that is there" } else { "" };
            say(format!(
                "Would move {} keys ({}), {} leases at revision {} to {urls}{resumed}\n\
                 The target is at revision {}: {} small writes would raise it above the store's",
                check.keys,
                size(check.bytes),
                check.leases,
                check.revision,
                check.target_revision,
                check.raise
            ));
            return Ok(());
        }
        let mut bar = progress::Progress::new();
        let mut report = |at: Progress| bar.at(at.done, at.of, &line(at));
        let moved = tokio::select! {
            moved = mover.run(&mut report) => moved,
            _ = tokio::signal::ctrl_c() => {
                drop(bar);
                return Err(Failure::failed(
                    "interrupted; unless it says otherwise at both places the store is where it was\n  \
                     begin again with the same command: what was copied is used",
                ));
            }
        };
        bar.clear();
        let done = moved.map_err(refused)?;
        if self.json {
            return print_json(&json!({
                "to": urls, "decided": done.cut.decided, "copied": done.cut.copied, "keys": done.keys,
                "leases": done.leases, "held_ms": done.held.as_millis() as u64,
            }));
        }
        say(format!(
            "The store is at {urls}: {} keys and {} leases, each verified; writes were held for {} ms\n\
             Agents go there by themselves, and keep it in their data folders",
            done.keys,
            done.leases,
            done.held.as_millis()
        ));
        Ok(())
    }

    fn target(&self, data: Option<&Path>) -> Result<(Remote, Place), Failure> {
        if self.to != "hosted" {
            let endpoints: Endpoints = self.to.parse().map_err(|error| Failure::usage(format!("--to: {error}")))?;
            let access = self.reach.access.clone().or_of(&data_folder(data, false));
            let target = access.open(&endpoints, "--to")?;
            return Ok((target, Place { urls: endpoints.0, host: None }));
        }
        let data = data_folder(data, false);
        let missing = |what: &str| {
            Failure::new(
                Code::Unreachable,
                format!(
                    "no agent of {} can host the store: {what}\n  run this where its agent runs, with --data",
                    data.display()
                ),
            )
        };
        let path = std::path::absolute(data.join(STORE_SOCKET)).map_err(|error| missing(&error.to_string()))?;
        let host =
            std::fs::read_to_string(data.join("agent.id")).map_err(|error| missing(&format!("agent.id: {error}")))?;
        let doors = std::fs::read(data.join("doors.json")).map_err(|error| missing(&format!("doors.json: {error}")))?;
        let doors: serde_json::Value =
            serde_json::from_slice(&doors).map_err(|error| missing(&format!("doors.json: {error}")))?;
        let Some(door) = doors["etcd"].as_str() else {
            return Err(missing(
                "its etcd door is shut, so that other agents could not reach the store: start it with --etcd",
            ));
        };
        if door.parse::<SocketAddr>().is_ok_and(|at| at.ip().is_unspecified()) {
            return Err(missing(
                "its etcd door listens everywhere: start it with --etcd and the one address that others know",
            ));
        }
        let scheme = if doors["tls"] == true { "https" } else { "http" };
        let target = Remote::new([format!("unix:{}", path.display())]).map_err(failed)?;
        Ok((target, Place { urls: vec![format!("{scheme}://{door}")], host: Some(host.trim().to_owned()) }))
    }
}

fn line(at: Progress) -> String {
    match at.phase {
        "raising" => format!("raising the target's revision: {} of {}", at.done, at.of),
        "copying" => format!("copying: {} of {} keys", at.done, at.of),
        "verifying" => format!("verifying: {} of {} keys", at.done, at.of),
        "following" => format!("following: {} revisions behind", at.lag),
        phase => phase.to_owned(),
    }
}

fn refused(error: MoveError) -> Failure {
    match error {
        MoveError::Refused(why) => Failure::new(Code::Refused, format!("the store is not moved: {why}")),
        MoveError::Source(inner) => {
            Failure::new(failed(inner.clone()).code, format!("the store is not moved: where it is: {inner}"))
        }
        MoveError::Target(inner) => {
            Failure::new(failed(inner.clone()).code, format!("the store is not moved: where it is to go: {inner}"))
        }
        MoveError::InDoubt(_) => Failure::failed(format!(
            "{error}\n  when the old place is back, `regrow kv get /regrow/store/moved` there says it: moved if it has `copied`"
        )),
        error => Failure::failed(format!("the store is not moved: {error}")),
    }
}

/// A number that no other move has. Source: proc(5), random/uuid.
fn uuid() -> Result<String, Failure> {
    let path = "/proc/sys/kernel/random/uuid";
    let id = std::fs::read_to_string(path).map_err(|error| Failure::failed(format!("cannot read {path}: {error}")))?;
    Ok(id.trim().to_owned())
}

fn who() -> String {
    let system = rustix::system::uname();
    format!("process {} on {}", std::process::id(), system.nodename().to_string_lossy())
}
