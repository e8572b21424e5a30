//! How one command asks the process that migrates to cut over, to go back or to confirm: by files in the state folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::migrate::MigrateError;
use crate::migrate::cut_over::{CutOver, CutOverReport};
use crate::migrate::journal::State;
use crate::migrate::verify::Verdict;

const REQUEST: &str = "request.json";
const ANSWER: &str = "answer.json";
/// How often it is looked for a file.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// Bring clients to the target.
    CutOver(CutOver),
    /// Bring them back to the source.
    Back(CutOver),
    /// Give the source up.
    Confirm,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) done: bool,
    pub(super) paused_ms: Option<u64>,
    pub(super) text: String,
}

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> MigrateError {
    let path = path.to_owned();
    move |source| MigrateError::Disk { path, source }
}

/// Whether a process migrates with this folder.
pub(super) fn running(folder: &Path) -> Result<bool, MigrateError> {
    if !folder.exists() {
        return Ok(false);
    }
    match State::open(folder) {
        Ok(_) => Ok(false),
        Err(MigrateError::Refused { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until somebody asks.
pub(super) async fn wait(folder: &Path) -> Result<Request, MigrateError> {
    let path = folder.join(REQUEST);
    loop {
        if let Ok(bytes) = fs::read(&path)
            && let Ok(request) = serde_json::from_slice::<Request>(&bytes)
        {
            fs::remove_file(&path).map_err(disk(&path))?;
            return Ok(request);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Answer {
    /// It was not done.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self { done: false, paused_ms: None, text: why.into() }
    }

    /// Of a cut-over in either direction. `name`: what it is called.
    pub(super) fn of(name: &str, done: Result<(Option<&CutOverReport>, Option<&Verdict>), String>) -> Self {
        match done {
            Ok((Some(report), _)) => Self {
                done: true,
                paused_ms: Some(report.paused_ms),
                text: format!(
                    "{name}: writers were paused for {} ms; {} late write(s) carried over",
                    report.paused_ms, report.late_writes
                ),
            },
            Ok((None, verdict)) => Self::refused(verdict.map_or_else(String::new, |verdict| {
                format!(
                    "not {name}: {} of {} keys differ; see what the migration printed",
                    verdict.different, verdict.keys
                )
            })),
            Err(why) => Self::refused(format!("not {name}: {why}")),
        }
    }
}

/// Tells what came of it.
pub(super) fn answer(folder: &Path, answer: &Answer) -> Result<(), MigrateError> {
    let (path, fresh) = (folder.join(ANSWER), folder.join("answer.new"));
    let bytes = serde_json::to_vec(answer).unwrap_or_default();
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)).map_err(disk(&path))
}

/// Asks the process that migrates, and waits for its answer. `None`: no process does.
pub(super) async fn hand_over(folder: &Path, request: &Request) -> Result<Option<Answer>, MigrateError> {
    if !running(folder)? {
        return Ok(None);
    }
    let (path, answer, fresh) = (folder.join(REQUEST), folder.join(ANSWER), folder.join("request.new"));
    let _ = fs::remove_file(&answer);
    let bytes = serde_json::to_vec(request).unwrap_or_default();
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, &path)).map_err(disk(&path))?;
    loop {
        if let Ok(bytes) = fs::read(&answer)
            && let Ok(said) = serde_json::from_slice(&bytes)
        {
            let _ = fs::remove_file(&answer);
            return Ok(Some(said));
        }
        if !running(folder)? {
            let _ = fs::remove_file(&path);
            return Err(MigrateError::Stopped);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
