//! The calls that are made most, answered on the spot.
//!
//! Texts and codes of what is refused before the door sees it are those of gRPC's own servers.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use prost::Message;
use regrow_store::proto::etcdserverpb::{self as pb, kv_server::Kv};
use tokio::time::timeout;
use tonic::Status;

use super::routed::data_of;
use crate::etcd::{Door, limits::MESSAGE_BYTES_MAX};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// A call that is answered here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Kind {
    /// What a request calls; `None`: something that the routes answer.
    pub(super) fn of(request: &Request<RecvStream>) -> Option<Kind> {
        let kind = match request.uri().path() {
            "/etcdserverpb.KV/Range" => Kind::Range,
            "/etcdserverpb.KV/Put" => Kind::Put,
            "/etcdserverpb.KV/DeleteRange" => Kind::DeleteRange,
            "/etcdserverpb.KV/Txn" => Kind::Txn,
            _ => return None,
        };
        let headers = request.headers();
        let is_grpc =
            headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let plain = headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity");
        (is_grpc && plain && request.method() == Method::POST).then_some(kind)
    }
}

/// Does a call and answers it.
pub(super) async fn answer(kind: Kind, door: Arc<Door>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let done = match time(&parts.headers) {
        None => call(kind, door, body).await,
        Some(time) => {
            let late = |_| Err(Status::deadline_exceeded("Timeout expired"));
            timeout(time, call(kind, door, body)).await.unwrap_or_else(late)
        }
    };
    // Who does not take the answer does not need it.
    let _ = send(done, respond).await;
}

async fn call(kind: Kind, door: Arc<Door>, body: RecvStream) -> Result<Bytes, Status> {
    let message = message(body).await?;
    match kind {
        Kind::Put => encoded(door.put(decoded(message)?).await),
        Kind::DeleteRange => encoded(door.delete_range(decoded(message)?).await),
        Kind::Range => {
            let request: tonic::Request<pb::RangeRequest> = decoded(message)?;
            if request.get_ref().range_end.is_empty() {
                return encoded(door.range(request).await);
            }
            apart(async move { encoded(door.range(request).await) }).await
        }
        Kind::Txn => {
            let request: tonic::Request<pb::TxnRequest> = decoded(message)?;
            if request.get_ref().success.len().max(request.get_ref().failure.len()) <= SMALL_TXN {
                return encoded(door.txn(request).await);
            }
            apart(async move { encoded(door.txn(request).await) }).await
        }
    }
}

/// Operations of a transaction that is no burden to the others of its connection.
const SMALL_TXN: usize = 8;

/// Does what may take long as a task of its own, so that other calls of the connection need not wait for it.
async fn apart(work: impl Future<Output = Result<Bytes, Status>> + Send + 'static) -> Result<Bytes, Status> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(Status::internal("the call was broken off")))
}

/// The one message of a call.
async fn message(mut body: RecvStream) -> Result<Bytes, Status> {
    let mut all = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| Status::cancelled(error.to_string()))?;
        // It has left the window; the client may send as much again.
        let _ = body.flow_control().release_capacity(data.len());
        if all.is_empty() && more.is_empty() {
            all = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&std::mem::take(&mut all));
            }
            more.extend_from_slice(&data);
        }
        check(if more.is_empty() { &all } else { &more })?;
    }
    let mut all = if more.is_empty() { all } else { more.freeze() };
    if all.len() < HEAD || all.len() < HEAD + length(&all) {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    Ok(all.split_off(HEAD))
}

fn length(all: &[u8]) -> usize {
    u32::from_be_bytes([all[1], all[2], all[3], all[4]]) as usize
}

/// Whether what has come can become one message that is taken.
fn check(all: &[u8]) -> Result<(), Status> {
    if all.len() < HEAD {
        return Ok(());
    }
    let len = length(all);
    if all[0] != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    if len > MESSAGE_BYTES_MAX {
        let text = format!(
            "Error, decoded message length too large: found {len} bytes, the limit is: {MESSAGE_BYTES_MAX} bytes"
        );
        return Err(Status::out_of_range(text));
    }
    if all.len() > HEAD + len {
        return Err(Status::internal("more than one message in a call that takes one"));
    }
    Ok(())
}

fn decoded<T: Message + Default>(bytes: Bytes) -> Result<tonic::Request<T>, Status> {
    let message = T::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(tonic::Request::new(message))
}

fn encoded<T: Message>(answer: Result<tonic::Response<T>, Status>) -> Result<Bytes, Status> {
    let message = answer?.into_inner();
    let len = message.encoded_len();
    let head = u32::try_from(len).map_err(|_| Status::out_of_range("the answer has more than 4 GiB"))?;
    let mut bytes = BytesMut::with_capacity(HEAD + len);
    bytes.put_u8(0);
    bytes.put_u32(head);
    message.encode(&mut bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(bytes.freeze())
}

/// How long the client waits: up to 8 digits and a unit.
fn time(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

async fn send(done: Result<Bytes, Status>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let bytes = match done {
        Ok(bytes) => bytes,
        Err(status) => {
            respond.send_response(status.into_http::<()>(), true)?;
            return Ok(());
        }
    };
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    data_of(&mut stream, bytes).await?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeout is digits and a unit; what is none is none.
    #[test]
    fn times_are_read() {
        for (text, expect) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("15M", Some(Duration::from_secs(900))),
            ("5S", Some(Duration::from_secs(5))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(time(&headers), expect, "{text}");
        }
    }

    /// What cannot become one message is refused as soon as that is seen.
    #[test]
    fn messages_are_checked() {
        let huge = [&[0][..], &(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes()].concat();
        for (bytes, expect) in [
            (&[][..], None),
            (&[0, 0, 0], None),
            (&[0, 0, 0, 0, 0], None),
            (&[0, 0, 0, 0, 2, 7], None),
            (&[1, 0, 0, 0, 2, 7], Some(tonic::Code::Unimplemented)),
            (&[0, 0, 0, 0, 0, 7], Some(tonic::Code::Internal)),
            (&huge, Some(tonic::Code::OutOfRange)),
        ] {
            assert_eq!(check(bytes).err().map(|status| status.code()), expect, "{bytes:?}");
        }
    }
}
