//! A connection of which the first bytes were read, to see what it speaks.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection, and what was read of it before.
pub(super) struct Begun<T> {
    io: T,
    head: [u8; PREFACE.len()],
    /// Of the head: what is still to be given out.
    left: std::ops::Range<usize>,
}

impl<T: AsyncRead + Unpin> Begun<T> {
    /// Reads as far as it takes to know whether it speaks HTTP/2.
    pub(super) async fn read(mut io: T) -> io::Result<(bool, Begun<T>)> {
        let mut head = [0; PREFACE.len()];
        let mut len = 0;
        while len < PREFACE.len() && head[..len] == PREFACE[..len] {
            match io.read(&mut head[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        Ok((head == *PREFACE, Begun { io, head, left: 0..len }))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buf);
        }
        let len = buf.remaining().min(self.left.len());
        let start = self.left.start;
        buf.put_slice(&self.head[start..start + len]);
        self.left.start += len;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Whatever was read to tell the two apart is given out again, however it came.
    #[tokio::test]
    async fn nothing_is_lost() {
        let of_http2 = [&PREFACE[..], b"more"].concat();
        for (sent, expect) in [(&of_http2[..], true), (b"GET / HTTP/1.1\r\n", false), (b"PRI", false), (b"", false)] {
            for piece in [1, 7, 100] {
                let (mut client, server) = tokio::io::duplex(8);
                let sending = async {
                    for piece in sent.chunks(piece) {
                        client.write_all(piece).await.expect("it is read");
                    }
                    drop(client);
                };
                let reading = async {
                    let (speaks, mut io) = Begun::read(server).await.expect("it is sent");
                    let mut found = Vec::new();
                    io.read_to_end(&mut found).await.expect("it is sent");
                    (speaks, found)
                };
                let ((), (speaks, found)) = tokio::join!(sending, reading);
                assert_eq!((speaks, &found[..]), (expect, sent));
            }
        }
    }
}
