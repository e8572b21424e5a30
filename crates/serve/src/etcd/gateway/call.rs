//! One call: gRPC to the services of the same door, JSON to the client.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Uri, Version, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::unfold;
use http_body::Body as _;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tonic::{Code, Status, codegen::Service};

use super::{Shared, objects::Objects, read, refused, schema::Method, write};
use crate::etcd::limits::{GATEWAY_BODY_TIMEOUT, MESSAGE_BYTES_MAX};

/// Bytes before a message of gRPC: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Headers of HTTP that are metadata of gRPC with this before their names, as in etcd's gateway.
const METADATA: &str = "grpc-metadata-";

/// Answers one request. `name` is the call, `package.Service/Name`.
pub(super) async fn answer(gateway: Arc<Shared>, services: Router, name: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // What is not described is not offered: whoever answers for it says so.
    let Some(method) = gateway.schema.method(name) else {
        let request = grpc(parts, name, Body::from(framed(&[])));
        return match Answers::of(services, request).await.map(|_| ()) {
            Err(status) => refused::answer(&status),
            Ok(()) => refused::answer(&Status::unimplemented("regrow: this call is not offered as JSON")),
        };
    };
    let (body, room) = match method.asks_many {
        true => (Body::from_stream(requests(gateway.clone(), method, body)), None),
        false => match one_request(&gateway, method, body).await {
            Ok((message, room)) => (Body::from(message), Some(room)),
            Err(status) => return refused::answer(&status),
        },
    };
    let answers = Answers::of(services, grpc(parts, name, body)).await;
    drop(room);
    let done = match answers {
        Ok(answers) if method.answers_many => stream(gateway, method, answers).await,
        Ok(answers) => one_answer(&gateway, method, answers).await,
        Err(status) => Err(status),
    };
    done.unwrap_or_else(|status| refused::answer(&status))
}

/// The request to the service: who asks, as the connection and the headers show it, and nothing else of the client's.
fn grpc(parts: Parts, name: &str, body: Body) -> Request {
    let mut request = Request::new(body);
    *request.method_mut() = HttpMethod::POST;
    *request.version_mut() = Version::HTTP_2;
    // Names come from the table of calls.
    *request.uri_mut() = Uri::try_from(format!("/{name}")).unwrap_or_default();
    *request.extensions_mut() = parts.extensions;
    let headers = request.headers_mut();
    for (name, value) in &parts.headers {
        let passed = match name.as_str().strip_prefix(METADATA) {
            Some(name) => HeaderName::try_from(name).ok(),
            None => [header::AUTHORIZATION, header::HOST].contains(name).then(|| name.clone()),
        };
        if let Some(name) = passed {
            headers.append(name, value.clone());
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + message.len());
    bytes.put_u8(0);
    // Requests are bounded far below 4 GiB.
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// The message of a call that asks once. What is held of it counts as long as the permit lives.
async fn one_request(
    gateway: &Shared,
    method: Method,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Status> {
    let late = |_| Err(Status::deadline_exceeded("regrow: the request was not sent in time"));
    let (text, room) = timeout(GATEWAY_BODY_TIMEOUT, whole(gateway, body)).await.unwrap_or_else(late)?;
    let message = read::message(&gateway.schema, method.input, &text).map_err(not_understood)?;
    Ok((framed(&message), room))
}

/// Everything that a client sends, within limits.
async fn whole(gateway: &Shared, mut body: Body) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), Status> {
    let (mut text, mut room) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
    while let Some(data) = data(&mut body).await {
        text.extend_from_slice(&data?);
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(Status::invalid_argument("etcdserver: request is too large"));
        }
        let more = gateway.room(text.len(), room.as_ref())?;
        match (&mut room, more) {
            (Some(room), Some(more)) => room.merge(more),
            (room, Some(more)) => *room = Some(more),
            (_, None) => {}
        }
    }
    Ok((text, room))
}

/// The messages of a call that asks many times, as their objects come.
fn requests(
    gateway: Arc<Shared>,
    method: Method,
    body: Body,
) -> impl futures_util::Stream<Item = Result<Bytes, Status>> {
    unfold(Some((body, Objects::default())), move |state| {
        let gateway = gateway.clone();
        async move {
            let (mut body, mut objects) = state?;
            loop {
                match objects.pop() {
                    Ok(Some(text)) => {
                        let message = read::message(&gateway.schema, method.input, &text);
                        let state = message.is_ok().then_some((body, objects));
                        return Some((message.map(|message| framed(&message)).map_err(not_understood), state));
                    }
                    Ok(None) => {}
                    Err(error) => return Some((Err(not_understood(error)), None)),
                }
                match data(&mut body).await {
                    Some(Ok(data)) => objects.push(&data),
                    Some(Err(status)) => return Some((Err(status), None)),
                    None if objects.is_empty() => return None,
                    None => return Some((Err(not_understood("the last object has no end".to_owned())), None)),
                }
            }
        }
    })
}

fn not_understood(error: String) -> Status {
    Status::invalid_argument(format!("regrow: {error}"))
}

async fn data(body: &mut Body) -> Option<Result<Bytes, Status>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            // Trailers say nothing here.
            Ok(frame) => match frame.into_data() {
                Ok(data) => return Some(Ok(data)),
                Err(_) => continue,
            },
            Err(error) => return Some(Err(Status::cancelled(format!("regrow: the request broke off: {error}")))),
        }
    }
}

async fn one_answer(gateway: &Shared, method: Method, mut answers: Answers) -> Result<Response, Status> {
    let message = answers.next().await.unwrap_or_else(|| Err(Status::internal("regrow: there is no answer")))?;
    let mut text = Vec::new();
    // As JSON it takes up a third more, and some for the names.
    let room = gateway.room(message.len() * 2, None)?;
    write::object(&gateway.schema, method.output, &message, &mut text).map_err(own_fault)?;
    Ok(json(Body::from(Bytes::from_owner(Held(text, room)))))
}

/// An answer's text. It takes up room until it has been written to the client.
struct Held(Vec<u8>, #[expect(dead_code, reason = "held as long as the text")] Option<OwnedSemaphorePermit>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A line for each message. The status of HTTP is not told before the first.
async fn stream(gateway: Arc<Shared>, method: Method, mut answers: Answers) -> Result<Response, Status> {
    let first = answers.next().await.transpose()?;
    let state = first.map(|first| (Some(first), answers));
    let lines = unfold(state, move |state| {
        let gateway = gateway.clone();
        async move {
            let (first, mut answers) = state?;
            let message = match first {
                Some(first) => Ok(first),
                None => answers.next().await?,
            };
            let line = message.and_then(|message| {
                let mut line = b"{\"result\":".to_vec();
                write::object(&gateway.schema, method.output, &message, &mut line).map_err(own_fault)?;
                line.extend_from_slice(b"}\n");
                Ok(line)
            });
            let state = line.is_ok().then_some((None, answers));
            Some((Ok::<_, Status>(line.unwrap_or_else(|status| refused::line(&status))), state))
        }
    });
    Ok(json(Body::from_stream(lines)))
}

fn json(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn own_fault(_: write::Malformed) -> Status {
    Status::internal("regrow: the answer could not be written as JSON")
}

/// The messages that a service answers with.
struct Answers {
    body: Body,
    held: BytesMut,
}

impl Answers {
    /// Asks. `Err`: refused at once.
    async fn of(mut routes: Router, request: Request) -> Result<Answers, Status> {
        // The routes themselves do not fail.
        let Ok(response) = routes.call(request).await;
        match refusal(response.headers()) {
            Some(status) => Err(status),
            None => Ok(Answers { body: response.into_body(), held: BytesMut::new() }),
        }
    }

    /// The next message; `None` when all is told and went well.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(message) = self.held() {
                return Some(message);
            }
            let frame = match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(Status::internal(format!("regrow: the answer broke off: {error}")))),
            };
            match frame.into_data() {
                Ok(data) if self.held.is_empty() => self.held = BytesMut::from(data),
                Ok(data) => self.held.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(refusal) {
                        return Some(Err(status));
                    }
                }
            }
        }
    }

    fn held(&mut self) -> Option<Result<Bytes, Status>> {
        let head = self.held.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != 0 {
            return Some(Err(Status::internal("regrow: the answer is compressed, though nobody asked for that")));
        }
        if self.held.len() < HEAD + length {
            return None;
        }
        self.held.advance(HEAD);
        Some(Ok(self.held.split_to(length).freeze()))
    }
}

fn refusal(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}
