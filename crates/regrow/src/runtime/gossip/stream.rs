//! One TCP connection of gossip: a task that reads and writes, and tells the node.

use regrow_gossip::{StreamEnd, StreamId};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// One read.
const READ_BYTES: usize = 64 << 10;
/// Writes waiting on one connection; the machine sends a message or two on each.
const WRITES_WAITING: usize = 16;
/// Longest that a peer may take nothing of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection tells the node.
#[derive(Debug)]
pub(super) enum Note {
    Data(StreamId, Vec<u8>),
    Ended(StreamId, StreamEnd),
}

/// The way to a connection; dropped, the connection is closed when all is sent.
pub(super) type Writes = mpsc::Sender<Vec<u8>>;

/// Takes care of a connection that was accepted.
pub(super) fn accepted(stream: StreamId, tcp: TcpStream, notes: mpsc::Sender<Note>) -> Writes {
    let (writes, waiting) = mpsc::channel(WRITES_WAITING);
    tokio::spawn(carry(stream, tcp, waiting, notes));
    writes
}

/// Connects from `from`, sends `first`, and takes care of the rest.
pub(super) fn open(
    stream: StreamId,
    from: IpAddr,
    to: SocketAddr,
    first: Vec<u8>,
    within: Duration,
    notes: mpsc::Sender<Note>,
) -> Writes {
    let (writes, waiting) = mpsc::channel(WRITES_WAITING);
    let queued = writes.try_send(first).is_ok();
    debug_assert!(queued, "a new queue has room");
    tokio::spawn(async move {
        let connected = tokio::time::timeout(within, connect(from, to)).await;
        let end = match connected {
            Ok(Ok(tcp)) => return carry(stream, tcp, waiting, notes).await,
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => StreamEnd::Refused,
            Ok(Err(_)) | Err(_) => StreamEnd::Failed,
        };
        let _ = notes.send(Note::Ended(stream, end)).await;
    });
    writes
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Peers and firewalls know us by the address that we advertise.
    if !from.is_unspecified() && from.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let tcp = socket.connect(to).await?;
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// Reads and writes at once, until either side is done. Once the node has let go nothing is told any more.
async fn carry(stream: StreamId, tcp: TcpStream, mut waiting: mpsc::Receiver<Vec<u8>>, notes: mpsc::Sender<Note>) {
    let (mut reader, mut writer) = tcp.into_split();
    let reading = async {
        let mut buffer = vec![0; READ_BYTES];
        let end = loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break StreamEnd::Closed,
                Ok(length) => {
                    if notes.send(Note::Data(stream, buffer[..length].to_vec())).await.is_err() {
                        return;
                    }
                }
                Err(_) => break StreamEnd::Failed,
            }
        };
        let _ = notes.send(Note::Ended(stream, end)).await;
        // What is still to be written is written: the peer may have closed only its half.
        std::future::pending().await
    };
    let writing = async {
        while let Some(bytes) = waiting.recv().await {
            match tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    let _ = notes.send(Note::Ended(stream, StreamEnd::Failed)).await;
                    return;
                }
            }
        }
        let _ = tokio::time::timeout(WRITE_TIMEOUT, writer.shutdown()).await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
