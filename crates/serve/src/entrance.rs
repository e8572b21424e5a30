//! Where connections come in, and what a connection shows of who is there.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::access::{Keys, Origin, Peer, Standing};

/// A listener, and what is shown to who comes by it.
#[derive(Debug)]
pub struct Entrance {
    listener: Listener,
    keys: Option<Keys>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl From<TcpListener> for Entrance {
    fn from(listener: TcpListener) -> Self {
        Self { listener: Listener::Tcp(listener), keys: None }
    }
}

impl From<UnixListener> for Entrance {
    fn from(listener: UnixListener) -> Self {
        Self { listener: Listener::Unix(listener), keys: None }
    }
}

impl Entrance {
    /// A listener that speaks TLS if there are keys for it.
    pub fn sealed(listener: TcpListener, keys: Option<Keys>) -> Self {
        Self { listener: Listener::Tcp(listener), keys }
    }

    /// The next connection. Nothing is read of it yet.
    pub(crate) async fn next(&self) -> io::Result<Arrival> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Arrival::Tcp(stream, remote, self.keys.clone()))
            }
            Listener::Unix(listener) => Ok(Arrival::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection that has come.
#[derive(Debug)]
pub(crate) enum Arrival {
    Tcp(TcpStream, SocketAddr, Option<Keys>),
    Unix(UnixStream),
}

/// A connection that was let in.
pub(crate) struct Entered {
    pub(crate) stream: Stream,
    /// What every request of it is told about it, [`Peer`] among it.
    pub(crate) about: Extensions,
    pub(crate) standing: Option<Standing>,
}

impl Arrival {
    /// Lets it in: shakes hands, where there are keys.
    pub(crate) async fn enter(self) -> io::Result<Entered> {
        let mut about = Extensions::new();
        let (stream, origin, standing) = match self {
            Arrival::Unix(stream) => {
                let uid = stream.peer_cred().ok().map(|who| who.uid());
                (Stream::Unix(stream), Origin::Unix { uid }, None)
            }
            Arrival::Tcp(stream, remote, None) => {
                about.insert(stream.connect_info());
                (Stream::Tcp(stream), Origin::Tcp { remote, tls: false }, None)
            }
            Arrival::Tcp(stream, remote, Some(keys)) => {
                about.insert(stream.connect_info());
                let entered = keys.enter(stream).await;
                let (stream, standing) = entered.inspect_err(|error| {
                    tracing::debug!(%remote, "a connection was not let in: {error}");
                })?;
                (Stream::Tls(Box::new(stream)), Origin::Tcp { remote, tls: true }, Some(standing))
            }
        };
        let certificate = standing.as_ref().and_then(|standing| standing.certificate.clone());
        about.insert(Peer { origin, certificate });
        Ok(Entered { stream, about, standing })
    }
}

/// Serves a connection as long as it may be served.
pub(crate) async fn while_good(standing: Option<Standing>, serving: impl Future<Output = ()>) {
    match standing {
        None => serving.await,
        Some(standing) => tokio::select! {
            () = serving => {}
            () = standing.lost() => {}
        },
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Does the same with whichever stream it is.
macro_rules! each {
    ($self:expr, $stream:ident => $what:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $what,
            Stream::Tls($stream) => $what,
            Stream::Unix($stream) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(context, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
