//! A connection to the server: calls as gRPC has them, on HTTP/2 as plainly as can be, so that little of the machine goes
//! into asking.

use std::{error::Error, future::poll_fn};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
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
        let mut send = self.send.clone();
        poll_fn(|context| send.poll_ready(context)).await?;
        let request = Request::post(format!("{}{path}", self.origin));
        let request = request.header("content-type", "application/grpc").header("te", "trailers").body(())?;
        let mut bytes = BytesMut::with_capacity(HEAD + message.encoded_len());
        bytes.put_u8(0);
        bytes.put_u32(message.encoded_len() as u32);
        message.encode(&mut bytes)?;
        let (response, mut stream) = send.send_request(request, false)?;
        stream.send_data(bytes.freeze(), true)?;
        let mut body = response.await?.into_body();
        let mut all = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            all.extend_from_slice(&data);
        }
        let trailers = body.trailers().await?.ok_or("refused without a message")?;
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            return Err(format!("refused: {:?}", trailers.get("grpc-message")).into());
        }
        Ok(A::decode(&all[HEAD..])?)
    }
}
