//! Files that runs have left: put together again from their pieces in the log.
//!
//! **Guarantees.** Only whole files are told, of the last try that left them. They are given as bytes to be saved: no browser
//! shows them. Memory is that of a few pieces, however large a file is.

use super::Jobs;
use super::http::{Answered, Asked, Desk, asked, found, run_id};
use super::route::{Route, Shape};
use super::wire::{ArtefactLine, ArtefactQuery};
use crate::AgentError;
use crate::api::not_found;
use crate::wire::{Refusal, RefusalKind};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use regrow_model::RunId;
use regrow_model::run::{Line, RunEvent};
use schemars::{Schema, json_schema};
use std::collections::BTreeMap;
use std::sync::Arc;

const BYTES: &str = "application/octet-stream";

/// The routes.
pub(super) fn routes() -> [Route; 2] {
    let list = Route::get("/api/runs/{id}/artefacts", "Files that the run has left.", list);
    let one = Route::get("/api/runs/{id}/artefact", "A file that the run has left.", one).answers(
        StatusCode::OK,
        BYTES,
        Shape::Of(|_| -> Schema { json_schema!({"type": "string", "format": "binary"}) }),
    );
    [list.refuses(&[RefusalKind::NotFound]), one.refuses(&[RefusalKind::NotFound])]
}

async fn list(State(desk): State<Desk>, Path(id): Path<String>) -> Answered<Vec<ArtefactLine>> {
    let id = run_id(&id)?;
    found(&desk, &id).await?;
    let _room = desk.followers.enter()?;
    let whole = all(&*desk.jobs, &id).await?.into_iter().filter(|(_, file)| file.is_whole());
    Ok(Json(whole.map(|(name, file)| ArtefactLine { name, size: file.size }).collect()))
}

async fn one(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<ArtefactQuery>,
) -> Result<Response, Refusal> {
    let (id, ArtefactQuery { name }) = (run_id(&id)?, asked(query)?);
    found(&desk, &id).await?;
    let room = desk.followers.enter()?;
    let file = all(&*desk.jobs, &id).await?.remove(&name).filter(File::is_whole);
    let file = file.ok_or_else(|| not_found(format!("run {id} has left no file `{name}`")))?;
    let size = file.size;
    let reading = Reading { jobs: desk.jobs, id, name, after: file.before, next: 0, size };
    let pieces = stream::try_unfold((reading, room), |(mut reading, room)| async move {
        Ok::<_, AgentError>(reading.more().await?.map(|bytes| (bytes, (reading, room))))
    });
    let headers = [
        (header::CONTENT_TYPE, BYTES.to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// A file, as far as the log has it.
struct File {
    size: u64,
    /// Bytes that are there.
    came: u64,
    /// The cursor in front of its first piece.
    before: Option<String>,
}

impl File {
    fn is_whole(&self) -> bool {
        self.came == self.size
    }
}

/// The files of a log.
async fn all(jobs: &dyn Jobs, id: &RunId) -> Result<BTreeMap<String, File>, AgentError> {
    let (mut files, mut after) = (BTreeMap::<String, File>::new(), None);
    loop {
        let pieces = jobs.log(id.clone(), after.clone()).await?;
        if pieces.is_empty() {
            return Ok(files);
        }
        for piece in pieces {
            for Piece { name, size, at, bytes } in artefacts(&piece.lines) {
                if at == 0 {
                    files.insert(name, File { size, came: bytes.len() as u64, before: after.clone() });
                } else if let Some(file) = files.get_mut(&name).filter(|file| file.came == at) {
                    file.came += bytes.len() as u64;
                }
            }
            after = Some(piece.cursor);
        }
    }
}

struct Piece {
    name: String,
    size: u64,
    at: u64,
    bytes: Vec<u8>,
}

fn artefacts(lines: &[u8]) -> impl Iterator<Item = Piece> {
    // Most lines are not read at all.
    const MARK: &[u8] = b"\"artefact\"";
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| line.windows(MARK.len()).any(|part| part == MARK));
    lines.filter_map(|line| {
        let Some(RunEvent::Artefact { name, size, at, data }) = serde_json::from_slice::<Line>(line).ok()?.event else {
            return None;
        };
        Some(Piece { name, size, at, bytes: STANDARD.decode(data).ok()? })
    })
}

/// A file on its way out.
struct Reading {
    jobs: Arc<dyn Jobs>,
    id: RunId,
    name: String,
    after: Option<String>,
    next: u64,
    size: u64,
}

impl Reading {
    async fn more(&mut self) -> Result<Option<Bytes>, AgentError> {
        while self.next < self.size {
            let pieces = self.jobs.log(self.id.clone(), self.after.clone()).await?;
            if pieces.is_empty() {
                return Err(AgentError::NotFound(format!("run {} is forgotten", self.id)));
            }
            let mut out = Vec::new();
            for piece in pieces {
                for Piece { name, at, bytes, .. } in artefacts(&piece.lines) {
                    if name == self.name && at == self.next && self.next < self.size {
                        self.next += bytes.len() as u64;
                        out.extend_from_slice(&bytes);
                    }
                }
                self.after = Some(piece.cursor);
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }
}
