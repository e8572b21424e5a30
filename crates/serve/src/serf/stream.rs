//! What goes on after its request: streams of events, the log, answers to a query.

use super::body;
use crate::membership::{Happening, QueryAnswer};
use regrow_gossip::Choice;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::{self, error::TrySendError};

/// The way to the client: whole records.
pub(super) type Records = mpsc::Sender<Vec<u8>>;

/// Puts a record in the queue of the client; one that is full loses it. Says whether the client is still there.
fn offer(records: &Records, record: Vec<u8>, lost: &mut u64) -> bool {
    match records.try_send(record) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            *lost += 1;
            // Told at 1, 2, 4, 8 …: a client that reads nothing must not fill the log.
            if lost.is_power_of_two() {
                tracing::warn!("an RPC client reads too slowly: {lost} records of its stream are lost");
            }
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

/// Happenings that one of `choices` wants.
pub(super) async fn events(
    seq: u64,
    choices: Vec<Choice>,
    mut happenings: broadcast::Receiver<Arc<Happening>>,
    records: Records,
) {
    let mut lost = 0;
    loop {
        match happenings.recv().await {
            Ok(happening) if choices.iter().any(|choice| choice.takes(&happening.event)) => {
                if let Some(record) = body::event(seq, &happening.event)
                    && !offer(&records, record, &mut lost)
                {
                    return;
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => lost += count,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Lines of the log of at least this level.
pub(super) async fn log(
    seq: u64,
    level: tracing::Level,
    mut lines: broadcast::Receiver<Arc<(tracing::Level, String)>>,
    records: Records,
) {
    let mut lost = 0;
    loop {
        match lines.recv().await {
            Ok(line) if line.0 <= level => {
                if !offer(&records, body::log(seq, line.1.trim_end()), &mut lost) {
                    return;
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(count)) => lost += count,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Answers, then that it is over.
pub(super) async fn answers(seq: u64, mut answers: mpsc::Receiver<QueryAnswer>, records: Records) {
    while let Some(answer) = answers.recv().await {
        let record = match answer {
            QueryAnswer::Ack { from } => body::answer(seq, "ack", &from, b""),
            QueryAnswer::Reply { from, payload } => body::answer(seq, "response", &from, &payload),
        };
        if records.send(record).await.is_err() {
            return;
        }
    }
    let _ = records.send(body::answer(seq, "done", "", b"")).await;
}
