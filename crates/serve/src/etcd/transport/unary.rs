//! The calls that are made most, answered on the spot.
//!
//! Texts and codes of what is refused before the door sees it are those of gRPC's own servers.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use prost::Message;
use regrow_store::proto::etcdserverpb::{self as pb, kv_server::Kv};
use tokio::time::timeout;
use tonic::Status;

use super::{
    answers::{self, Answers},
    message::{Messages, decoded, encode},
    routed::data_of,
};
use crate::etcd::{Door, txn};

/// A call that is answered here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Kind {
    /// `None`: something that is not answered here.
    pub(super) fn of(path: &str) -> Option<Kind> {
        match path {
            "/etcdserverpb.KV/Range" => Some(Kind::Range),
            "/etcdserverpb.KV/Put" => Some(Kind::Put),
            "/etcdserverpb.KV/DeleteRange" => Some(Kind::DeleteRange),
            "/etcdserverpb.KV/Txn" => Some(Kind::Txn),
            _ => None,
        }
    }
}

/// Does a call and answers it.
pub(super) async fn answer(
    kind: Kind,
    door: Arc<Door>,
    answers: Arc<Answers>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let done = match time(&parts.headers) {
        None => call(kind, door, answers, body).await,
        Some(time) => {
            let late = |_| Err(Status::deadline_exceeded("Timeout expired"));
            timeout(time, call(kind, door, answers, body)).await.unwrap_or_else(late)
        }
    };
    // Who does not take the answer does not need it.
    let _ = send(done, respond).await;
}

async fn call(kind: Kind, door: Arc<Door>, answers: Arc<Answers>, body: RecvStream) -> Result<Bytes, Status> {
    let message = Messages::new(body).only().await?;
    let all = door.answers.clone();
    let room;
    let answer = match kind {
        Kind::Put => {
            let request: tonic::Request<pb::PutRequest> = asked(message)?;
            room = answers.room(answers::of_put(request.get_ref()), &all).await?;
            encoded(door.put(request).await)
        }
        Kind::DeleteRange => {
            let request: tonic::Request<pb::DeleteRangeRequest> = asked(message)?;
            room = answers.room(answers::of_delete(request.get_ref()), &all).await?;
            encoded(door.delete_range(request).await)
        }
        Kind::Range => {
            let request: tonic::Request<pb::RangeRequest> = asked(message)?;
            room = answers.room(answers::of_range(request.get_ref()), &all).await?;
            if request.get_ref().range_end.is_empty() {
                encoded(door.range(request).await)
            } else {
                apart(async move { encoded(door.range(request).await) }).await
            }
        }
        Kind::Txn => {
            txn::check(&message)?;
            let request: tonic::Request<pb::TxnRequest> = asked(message)?;
            room = answers.room(answers::of_txn(request.get_ref()), &all).await?;
            if request.get_ref().success.len().max(request.get_ref().failure.len()) <= SMALL_TXN {
                encoded(door.txn(request).await)
            } else {
                apart(async move { encoded(door.txn(request).await) }).await
            }
        }
    }?;
    Ok(match room {
        Some(room) => room.hold(answer),
        None => answer,
    })
}

/// Operations of a transaction that is no burden to the others of its connection.
const SMALL_TXN: usize = 8;

/// Does what may take long as a task of its own, so that other calls of the connection need not wait for it.
async fn apart(work: impl Future<Output = Result<Bytes, Status>> + Send + 'static) -> Result<Bytes, Status> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(Status::internal("the call was broken off")))
}

fn asked<T: Message + Default>(bytes: Bytes) -> Result<tonic::Request<T>, Status> {
    decoded(bytes).map(tonic::Request::new)
}

fn encoded<T: Message>(answer: Result<tonic::Response<T>, Status>) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    encode(&answer?.into_inner(), &mut bytes)?;
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
}
