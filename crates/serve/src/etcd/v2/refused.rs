//! Refusals as etcd 2 says them: a number, a text, a cause, and where the store was.
//!
//! Source: etcd's `etcdserver/api/v2error`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use regrow_store::{Error, Revision, proto::status};
use serde::Serialize;

use super::path::Path;

/// What went wrong, by etcd's numbers. Clients tell refusals apart by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    KeyNotFound = 100,
    TestFailed = 101,
    NotFile = 102,
    NotDir = 104,
    NodeExist = 105,
    RootReadOnly = 107,
    DirNotEmpty = 108,
    /// Without credentials, or with wrong ones.
    Unauthorized = 110,
    PrevValueRequired = 201,
    TtlNotANumber = 202,
    IndexNotANumber = 203,
    InvalidField = 209,
    InvalidForm = 210,
    RefreshValue = 211,
    RefreshTtlRequired = 212,
    Internal = 300,
    EventIndexCleared = 401,
}

impl Code {
    fn message(self) -> &'static str {
        match self {
            Code::KeyNotFound => "Key not found",
            Code::TestFailed => "Compare failed",
            Code::NotFile => "Not a file",
            Code::NotDir => "Not a directory",
            Code::NodeExist => "Key already exists",
            Code::RootReadOnly => "Root is read only",
            Code::DirNotEmpty => "Directory not empty",
            Code::Unauthorized => "The request requires user authentication",
            Code::PrevValueRequired => "PrevValue is Required in POST form",
            Code::TtlNotANumber => "The given TTL in POST form is not a number",
            Code::IndexNotANumber => "The given index in POST form is not a number",
            Code::InvalidField => "Invalid field",
            Code::InvalidForm => "Invalid POST form",
            Code::RefreshValue => "Value provided on refresh",
            Code::RefreshTtlRequired => "A TTL must be provided on refresh",
            Code::Internal => "Raft Internal Error",
            Code::EventIndexCleared => "The event in requested index is outdated and cleared",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::KeyNotFound => StatusCode::NOT_FOUND,
            Code::NotFile | Code::DirNotEmpty => StatusCode::FORBIDDEN,
            Code::TestFailed | Code::NodeExist => StatusCode::PRECONDITION_FAILED,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A refusal. Nothing was changed, unless it is [`Code::Internal`]: then nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) cause: String,
    /// Where the store was; 0 if the request was refused without asking it.
    pub(super) index: Revision,
}

impl Refused {
    /// A request that makes no sense, whatever is in the store.
    pub(super) fn request(code: Code, cause: impl Into<String>) -> Self {
        Self { code, cause: cause.into(), index: Revision(0) }
    }

    /// A refusal because of a node.
    pub(super) fn node(code: Code, path: &Path, index: Revision) -> Self {
        Self { code, cause: path.to_string(), index }
    }
}

impl From<Error> for Refused {
    /// What the store refuses has etcd's text as its cause. What is the caller's doing is no internal error, so that
    /// clients do not try it elsewhere.
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Denied { reason } | Error::Anonymous { reason } | Error::Unauthenticated { reason } => {
                return Self::request(Code::Unauthorized, reason);
            }
            Error::LeaseTtlTooLarge { .. } => Code::TtlNotANumber,
            Error::RequestTooLarge { .. } | Error::TooManyOps { .. } => Code::InvalidField,
            _ => {
                tracing::warn!(%error, "a request of an etcd 2 client failed");
                Code::Internal
            }
        };
        Self::request(code, status(&error).message())
    }
}

/// Why something was not done: by the rules, or by the store, whose reason may call for another try.
#[derive(Debug)]
pub(super) enum Failed {
    Refused(Refused),
    Store(Error),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed::Refused(refused)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Store(error)
    }
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(refused) => refused,
            Failed::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            #[serde(rename = "errorCode")]
            code: u16,
            message: &'static str,
            #[serde(skip_serializing_if = "String::is_empty")]
            cause: String,
            index: i64,
        }
        let index = self.index.0;
        let body = Body { code: self.code as u16, message: self.code.message(), cause: self.cause, index };
        (self.code.status(), [("x-etcd-index", index.to_string())], Json(body)).into_response()
    }
}
