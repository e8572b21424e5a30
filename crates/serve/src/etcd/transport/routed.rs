//! A request that the routes answer.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use axum::{Router, response::Response};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, header};
use http_body::{Body, Frame};
use tonic::codegen::Service;

/// Headers of one connection, which HTTP/2 has no place for.
const OF_CONNECTION: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE];

/// Lets the routes answer a request, until the client gives it up.
pub(super) async fn answer(mut router: Router, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut response = pin!(router.call(request.map(Inbound)));
    let answered = poll_fn(|context| match respond.poll_reset(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => response.as_mut().poll(context).map(Some),
    });
    let Some(Ok(response)) = answered.await else { return };
    // Who does not take the answer does not need it.
    let _ = send(response, respond).await;
}

async fn send(response: Response, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (mut parts, body) = response.into_parts();
    OF_CONNECTION.iter().for_each(|name| drop(parts.headers.remove(name)));
    let mut body = pin!(body);
    let is_over = body.is_end_stream();
    let mut stream = respond.send_response(http::Response::from_parts(parts, ()), is_over)?;
    if is_over {
        return Ok(());
    }
    loop {
        let frame = poll_fn(|context| match stream.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(Some(Err(None))),
            Poll::Pending => body.as_mut().poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Some))),
        });
        match frame.await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data_of(&mut stream, data).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return stream.send_trailers(trailers);
                    }
                }
            },
            Some(Err(None)) => return Ok(()),
            Some(Err(Some(_))) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        }
    }
}

/// Sends bytes as the client makes room for them.
pub(super) async fn data_of(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|context| stream.poll_capacity(context)).await {
                Some(room) => drop(room?),
                None => return Err(Reason::CANCEL.into()),
            }
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(piece, false)?;
    }
    Ok(())
}

/// What a client sends with a request.
struct Inbound(RecvStream);

impl Body for Inbound {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(context)) {
            Some(Ok(data)) => {
                // It has left the window; the client may send as much again.
                let _ = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            // Given up by the client in good order.
            Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => match ready!(self.0.poll_trailers(context)) {
                Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
