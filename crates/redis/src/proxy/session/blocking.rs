//! Commands that wait on the server until there is something.
//!
//! Each has a connection for itself while it waits. When the client goes, the connection goes, and with it the wait. When
//! the backend is switched, the wait is ended on the old one and begun again, for the time left, on the new one: a wait that
//! was ended without an answer has taken nothing.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::proxy::backend::Backend;
use crate::proxy::frame::is_null;
use crate::proxy::keys::Words;
use crate::proxy::request::encode;
use crate::proxy::table::Timeout;
use crate::proxy::worker::Busy;
use crate::resp::Command;
use crate::slot::Slot;

use super::own::Course;
use super::{AHEAD_BYTES_MAX, Session};

/// What ended a wait.
enum Ended {
    Answer(Bytes),
    Broken(Bytes),
    /// The client is gone.
    Gone,
    /// Nothing was taken: begin again on the backend that there is then.
    Paused,
}

/// Whether a command that may block does.
pub(super) fn blocks(words: Words<'_>) -> bool {
    place(Timeout::Block, words).is_some()
}

fn place(timeout: Timeout, words: Words<'_>) -> Option<usize> {
    match timeout {
        Timeout::First => Some(1),
        Timeout::Last => words.len().checked_sub(1),
        Timeout::Block => {
            let streams = (1..words.len()).find(|at| words.is(*at, "STREAMS"))?;
            (1..streams).find(|at| words.is(*at, "BLOCK")).map(|at| at + 1)
        }
    }
}

/// The command with the time that is left of its wait. `None`: its time is over. A wait without end stays one, and so does
/// one that the server will not understand.
fn with_time_left(timeout: Timeout, words: Words<'_>, waited: Duration) -> Option<Bytes> {
    let unchanged = || Some(Bytes::copy_from_slice(words.bytes));
    let Some(at) = place(timeout, words) else { return unchanged() };
    let Some(time) = words.get(at).and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok()) else {
        return unchanged();
    };
    if time <= 0.0 || !time.is_finite() {
        return unchanged();
    }
    let left = match timeout {
        Timeout::Block => (time - waited.as_secs_f64() * 1000.0).ceil(),
        Timeout::First | Timeout::Last => time - waited.as_secs_f64(),
    };
    if left <= 0.0 {
        return None;
    }
    let left = if timeout == Timeout::Block { format!("{left:.0}") } else { format!("{left:.3}") };
    let all = words.from(0).enumerate().map(|(index, word)| if index == at { left.as_bytes() } else { word });
    Some(encode(all).freeze())
}

impl Session {
    pub(super) async fn block(
        &mut self,
        slot: Slot,
        timeout: Timeout,
        readonly: bool,
        request: &Bytes,
        places: &[Range<usize>],
    ) {
        let words = Words { bytes: request, places };
        let start = Instant::now();
        let mut course = Course::new(slot, readonly);
        loop {
            let Some(request) = with_time_left(timeout, words, start.elapsed()) else {
                self.client.answer(if self.is_three() { b"_\r\n" } else { b"*-1\r\n" });
                return;
            };
            match self.wait_for(&mut course, &request).await {
                Ended::Answer(answer) | Ended::Broken(answer) => {
                    self.client.answer(&answer);
                    return;
                }
                Ended::Gone => return,
                Ended::Paused => {
                    self.worker.open().await;
                    course = Course::new(slot, readonly);
                }
            }
        }
    }

    async fn wait_for(&mut self, course: &mut Course, request: &[u8]) -> Ended {
        let _busy = Busy::new(&self.worker);
        loop {
            let (mut dedicated, before) = match self.reach(course).await {
                Ok(reached) => reached,
                Err(answer) => return Ended::Broken(answer),
            };
            let Ok(wire) = dedicated.wire() else { continue };
            let from = wire.address.clone();
            let sent = async {
                let id = wire.id().await?;
                if !before.is_empty() {
                    wire.call(before, 1).await?;
                }
                wire.send(request).await.map(|()| id)
            };
            let id = match sent.await {
                Ok(id) => id,
                Err(error) => {
                    if self.again(course).await {
                        continue;
                    }
                    return Ended::Broken(Backend::broken_answer(true, &error));
                }
            };
            let mut unblocked = false;
            let answer = loop {
                let answer = tokio::select! {
                    answer = wire.next() => answer,
                    () = ahead(&mut self.reader, &mut self.input) => return Ended::Gone,
                    () = self.client.gone() => return Ended::Gone,
                    () = self.worker.closing(), if !unblocked => {
                        unblocked = true;
                        let backend = std::rc::Rc::clone(&self.backend);
                        let request = Command::new("CLIENT UNBLOCK").number(id).arg("TIMEOUT");
                        if let Ok(Some(mut other)) =
                            backend.dedicated(course.slot, Some(&from), self.client.proto.get()).await
                            && let Ok(other_wire) = other.wire()
                            && other_wire.ask(&request).await.is_ok()
                        {
                            other.give_back();
                        }
                        continue;
                    }
                };
                // Pushes are not what the client waits for.
                if !answer.as_ref().is_ok_and(|answer| answer.first() == Some(&b'>')) {
                    break answer;
                }
            };
            match answer {
                Ok(answer) if unblocked && is_null(&answer) => {
                    dedicated.give_back();
                    return Ended::Paused;
                }
                Ok(answer) => {
                    if !self.judge(course, &answer, &from).await {
                        dedicated.give_back();
                        return Ended::Answer(answer);
                    }
                    dedicated.give_back();
                }
                Err(error) => {
                    if !self.again(course).await {
                        return Ended::Broken(Backend::broken_answer(true, &error));
                    }
                }
            }
        }
    }
}

/// Reads what the client sends meanwhile, up to a limit; ends when the client is gone.
async fn ahead(reader: &mut crate::proxy::wire::Reader, input: &mut bytes::BytesMut) {
    while input.len() < AHEAD_BYTES_MAX {
        input.reserve(4096);
        match reader.read_buf(input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::super::super::keys::tests::with_words;
    use super::*;

    /// The time left is put in its place; a wait without end stays one; a wait that is over is not begun again.
    #[test]
    fn time_left() {
        let left = |line: &str, timeout, waited_ms| {
            with_words(line, |words| with_time_left(timeout, words, Duration::from_millis(waited_ms)))
        };
        let is = |line: &str| Some(encode(line.split(' ')).freeze());
        assert_eq!(left("BLPOP a 2", Timeout::Last, 500), is("BLPOP a 1.500"));
        assert_eq!(left("BLPOP a 0", Timeout::Last, 500), is("BLPOP a 0"));
        assert_eq!(left("BLPOP a x", Timeout::Last, 500), is("BLPOP a x"));
        assert_eq!(left("BLPOP a 2", Timeout::Last, 2500), None);
        assert_eq!(left("BLMPOP 2 1 a LEFT", Timeout::First, 500), is("BLMPOP 1.500 1 a LEFT"));
        assert_eq!(left("XREAD BLOCK 700 STREAMS a 0", Timeout::Block, 500), is("XREAD BLOCK 200 STREAMS a 0"));
        assert!(with_words("XREAD COUNT 1 STREAMS block 0", |words| !blocks(words)));
    }
}
