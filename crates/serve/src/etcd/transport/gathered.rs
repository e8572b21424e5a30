//! A connection whose bytes are held back for a moment, so that many small messages leave in one write.
//!
//! HTTP/2 below writes each message of more than 256 bytes by itself. Whoever serves the connection knows when there is no
//! more to come, and sends then.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes held back at most.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of memory kept for the next time.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// How often more is looked for before what is held is sent. A look takes a few microseconds.
const LOOKS_MAX: usize = 32;

/// A handle of the connection. HTTP/2 has one, and who serves it has one.
pub(super) struct Gathered<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    io: T,
    held: Vec<u8>,
    /// Of what is held: what has been written.
    written: usize,
    /// Bytes are sent when asked for by [`Gathered::poll_send`], not by each flush.
    gathers: bool,
    /// Of what is held: how much was there at the last look, and how often somebody has looked.
    seen: usize,
    looks: usize,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Gathered<T> {
    /// Until [`Gathered::gather`] a flush sends.
    pub(super) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(State { io, held: Vec::new(), written: 0, gathers: false, seen: 0, looks: 0 })))
    }

    pub(super) fn gather(&self) {
        self.lock().gathers = true;
    }

    /// Whether it is worth to look for more before what is held is sent: there is some, there was less the last time, and
    /// neither is it much nor has it been held for long.
    pub(super) fn grows(&self) -> bool {
        let mut state = self.lock();
        let grows = state.held.len() > state.seen && state.held.len() < KEPT_BYTES_MAX && state.looks < LOOKS_MAX;
        (state.seen, state.looks) = if grows { (state.held.len(), state.looks + 1) } else { (0, 0) };
        grows
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Sends what is held.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_send(context)
    }
}

impl<T: AsyncWrite + Unpin> State<T> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.held.len() {
            let more = ready!(Pin::new(&mut self.io).poll_write(context, &self.held[self.written..]))?;
            if more == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += more;
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.written = 0;
        self.held.clear();
        self.held.shrink_to(KEPT_BYTES_MAX);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_read(context, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let len: usize = bytes.iter().map(|piece| piece.len()).sum();
        if state.held.len() + len > HELD_BYTES_MAX {
            ready!(state.poll_send(context))?;
        }
        if len > HELD_BYTES_MAX {
            return Pin::new(&mut state.io).poll_write_vectored(context, bytes);
        }
        bytes.iter().for_each(|piece| state.held.extend_from_slice(piece));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.gathers { Poll::Ready(Ok(())) } else { state.poll_send(context) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_send(context))?;
        Pin::new(&mut state.io).poll_shutdown(context)
    }
}
