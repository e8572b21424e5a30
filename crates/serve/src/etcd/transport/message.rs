//! The messages of a call, as gRPC puts them into a body.

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{Method, Request, header};
use prost::Message;
use tonic::Status;

use crate::etcd::limits::MESSAGE_BYTES_MAX;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Whether a request is gRPC's, and its messages are as they are.
pub(super) fn is_plain(request: &Request<RecvStream>) -> bool {
    let headers = request.headers();
    let is_grpc =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let plain = headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity");
    is_grpc && plain && request.method() == Method::POST
}

/// The messages that a client sends with one call.
pub(super) struct Messages {
    body: RecvStream,
    come: Bytes,
}

impl Messages {
    pub(super) fn new(body: RecvStream) -> Self {
        Self { body, come: Bytes::new() }
    }

    /// The one message of a call that has no more.
    pub(super) async fn only(mut self) -> Result<Bytes, Status> {
        let message = self.next().await?.ok_or_else(broken_off)?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status::internal("more than one message in a call that takes one")),
        }
    }

    /// The next message; `None`: the client has sent all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let mut more = BytesMut::new();
        loop {
            let come = if more.is_empty() { &self.come[..] } else { &more };
            if let Some(len) = length(come)?
                && come.len() >= HEAD + len
            {
                if !more.is_empty() {
                    self.come = more.freeze();
                }
                let mut message = self.come.split_to(HEAD + len);
                return Ok(Some(message.split_off(HEAD)));
            }
            let is_between = come.is_empty();
            let Some(data) = self.body.data().await else {
                return if is_between { Ok(None) } else { Err(broken_off()) };
            };
            let data = data.map_err(|error| Status::cancelled(error.to_string()))?;
            // It has left the window; the client may send as much again.
            let _ = self.body.flow_control().release_capacity(data.len());
            if is_between {
                self.come = data;
                continue;
            }
            if more.is_empty() {
                more.extend_from_slice(&std::mem::take(&mut self.come));
            }
            more.extend_from_slice(&data);
        }
    }
}

fn broken_off() -> Status {
    Status::internal("Unexpected EOF decoding stream.")
}

/// How long the message is that begins here. `None`: too little has come to know.
fn length(come: &[u8]) -> Result<Option<usize>, Status> {
    let Some(&[compressed, a, b, c, d]) = come.first_chunk::<HEAD>() else { return Ok(None) };
    if compressed != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len > MESSAGE_BYTES_MAX {
        let text = format!(
            "Error, decoded message length too large: found {len} bytes, the limit is: {MESSAGE_BYTES_MAX} bytes"
        );
        return Err(Status::out_of_range(text));
    }
    Ok(Some(len))
}

/// Reads a message.
pub(super) fn decoded<T: Message + Default>(bytes: Bytes) -> Result<T, Status> {
    T::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// Writes a message behind those that are there.
pub(super) fn encode(message: &impl Message, bytes: &mut BytesMut) -> Result<(), Status> {
    let len = message.encoded_len();
    let head = u32::try_from(len).map_err(|_| Status::out_of_range("the answer has more than 4 GiB"))?;
    bytes.reserve(HEAD + len);
    bytes.put_u8(0);
    bytes.put_u32(head);
    message.encode(bytes).map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cannot become a message is refused as soon as that is seen.
    #[test]
    fn messages_are_checked() {
        let huge = [&[0][..], &(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes()].concat();
        for (bytes, expect) in [
            (&[][..], Ok(None)),
            (&[0, 0, 0], Ok(None)),
            (&[0, 0, 0, 0, 0], Ok(Some(0))),
            (&[0, 0, 0, 0, 2, 7], Ok(Some(2))),
            (&[1, 0, 0, 0, 2, 7], Err(tonic::Code::Unimplemented)),
            (&huge, Err(tonic::Code::OutOfRange)),
        ] {
            assert_eq!(length(bytes).map_err(|status| status.code()), expect, "{bytes:?}");
        }
    }
}
