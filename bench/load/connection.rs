//! A connection to the server: calls as gRPC has them, on HTTP/2 as plainly as can be, so that little of the machine goes
//! into asking.

use std::{error::Error, future::poll_fn};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::Request;
use prost::Message;
use tokio::net::TcpStream;

/// Whatever can fail.
pub(crate) type Failed = Box<dyn Error>;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// What the server may send before it is read.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// One connection; a handle is cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
    origin: String,
}

impl Connection {
    pub(crate) async fn open(url: &str) -> Result<Connection, Failed> {
        let stream = TcpStream::connect(url.strip_prefix("http://").ok_or("it is not http://HOST:PORT")?).await?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (send, connection) = builder.handshake(stream).await?;
        // When it ends, so do its calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { send, origin: url.to_owned() })
    }

    /// One call with one message each way.
    pub(crate) async fn call<A: Message + Default>(&self, path: &str, message: &impl Message) -> Result<A, Failed> {
        let (response, _) = self.begin(path, message, true).await?;
        let (head, mut body) = response.await?.into_parts();
        let mut all = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            all.extend_from_slice(&data);
        }
        // A refusal has no body, and may tell why in its head.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            return Err(format!("refused: {:?}", trailers.get("grpc-message")).into());
        }
        Ok(A::decode(&all[HEAD..])?)
    }

    /// A call that goes on: one message there, many back.
    pub(crate) async fn stream(&self, path: &str, message: &impl Message) -> Result<Incoming, Failed> {
        let (response, requests) = self.begin(path, message, false).await?;
        Ok(Incoming { _requests: requests, body: response.await?.into_body(), come: BytesMut::new() })
    }

    async fn begin(
        &self,
        path: &str,
        message: &impl Message,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Failed> {
        let mut send = self.send.clone();
        poll_fn(|context| send.poll_ready(context)).await?;
        let request = Request::post(format!("{}{path}", self.origin));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(())?;
        let mut bytes = BytesMut::with_capacity(HEAD + message.encoded_len());
        bytes.put_u8(0);
        bytes.put_u32(message.encoded_len() as u32);
        message.encode(&mut bytes)?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(bytes.freeze(), is_all)?;
        Ok((response, stream))
    }
}

/// The messages of a call that goes on. It ends when this is dropped.
pub(crate) struct Incoming {
    /// Its end would end the call.
    _requests: SendStream<Bytes>,
    body: RecvStream,
    come: BytesMut,
}

impl Incoming {
    /// The next message.
    pub(crate) async fn message<A: Message + Default>(&mut self) -> Result<A, Failed> {
        loop {
            if let Some(head) = self.come.first_chunk::<HEAD>() {
                let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.come.len() >= HEAD + len {
                    self.come.advance(HEAD);
                    return Ok(A::decode(self.come.split_to(len).freeze())?);
                }
            }
            let data = self.body.data().await.ok_or("the stream ended")??;
            self.body.flow_control().release_capacity(data.len())?;
            self.come.extend_from_slice(&data);
        }
    }
}
