//! From a socket to a reader that blocks: the reader of snapshots runs on a thread of its own, because it computes.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks on their way: with 64 KiB each, 1 MiB.
const CHUNKS_MAX: usize = 16;

/// A pipe of bounded size. The writer waits while it is full; the reader blocks while it is empty, and ends when the
/// writer is dropped. When the reader is dropped, writing fails.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    (PipeWriter(sender), PipeReader { receiver, chunk: Bytes::new() })
}

/// The end for the socket.
#[derive(Debug, Clone)]
pub struct PipeWriter(mpsc::Sender<Bytes>);

/// The end for the thread. It must not be read on a thread of the runtime.
#[derive(Debug)]
pub struct PipeReader {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl PipeWriter {
    /// Puts bytes in; false when nobody reads any more.
    pub async fn put(&self, bytes: Bytes) -> bool {
        self.0.send(bytes).await.is_ok()
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let size = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..size]);
        Ok(size)
    }
}
