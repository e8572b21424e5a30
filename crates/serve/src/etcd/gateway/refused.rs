//! What was refused, as etcd's gateway says it: a body of JSON, and a status of HTTP for each code of gRPC.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tonic::{Code, Status};

use super::write::text;

/// The answer to a call that failed.
pub(super) fn answer(status: &Status) -> Response {
    let mut body = Vec::new();
    body.extend_from_slice(b"{\"error\":");
    text(status.message(), &mut body);
    body.extend(format!(",\"code\":{},\"message\":", i32::from(status.code())).bytes());
    text(status.message(), &mut body);
    body.push(b'}');
    (http(status.code()), [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The last line of a stream that failed.
pub(super) fn line(status: &Status) -> Vec<u8> {
    let (code, http) = (i32::from(status.code()), http(status.code()));
    let mut line =
        format!("{{\"error\":{{\"grpc_code\":{code},\"http_code\":{},\"message\":", http.as_u16()).into_bytes();
    text(status.message(), &mut line);
    line.extend_from_slice(b",\"http_status\":");
    text(http.canonical_reason().unwrap_or(""), &mut line);
    line.extend_from_slice(b"}}\n");
    line
}

/// Source: grpc-gateway 1.16 `HTTPStatusFromCode`, which etcd 3.5 has.
fn http(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
