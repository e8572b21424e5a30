//! A stream of watches, answered within the task of its connection.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt,
    stream::{BoxStream, StreamExt, unfold},
};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tonic::Status;

use super::{
    message::{Messages, decoded, encode},
    routed::data_of,
};
use crate::etcd::{
    Door,
    watch::{self, Answer},
};

/// The path of the call.
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Bytes of answers after which they are sent, though there are more.
const TOGETHER_BYTES: usize = 16 * 1024;

/// Answers until the client goes.
pub(super) async fn watch(door: Arc<Door>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let requests = unfold(Messages::new(request.into_body()), async |mut messages| {
        let message = messages.next().await.transpose()?;
        Some((message.and_then(decoded), messages))
    });
    let answers = watch::answers((*door).clone(), requests.boxed());
    // Who does not take the answer does not need it.
    let _ = send(answers, respond).await;
}

async fn send(mut answers: BoxStream<'static, Answer>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    loop {
        let Some(first) = poll_fn(|context| next(&mut answers, &mut stream, context)).await else { return Ok(()) };
        let mut bytes = BytesMut::new();
        let mut more = Some(first);
        let mut ended = None;
        while let Some(answer) = more {
            if let Err(status) = answer.and_then(|answer| encode(&answer, &mut bytes)) {
                ended = Some(status);
                break;
            }
            more = if bytes.len() < TOGETHER_BYTES { answers.next().now_or_never().flatten() } else { None };
        }
        data_of(&mut stream, bytes.freeze()).await?;
        if let Some(status) = ended {
            return stream.send_trailers(trailers(&status));
        }
    }
}

/// The next answer; `None` when the client has gone.
fn next(
    answers: &mut BoxStream<'static, Answer>,
    stream: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
) -> Poll<Option<Answer>> {
    match stream.poll_reset(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => answers.poll_next_unpin(context),
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    // What cannot be written as headers is left out.
    let _ = status.add_header(&mut trailers);
    trailers
}
