//! A route of the interface of jobs, declared once: the router serves it, and [`super::openapi`] tells of it.
//!
//! **Guarantees.** What a handler's types say is read off them: its query, its body, what it answers. So the document says of
//! these what the compiler checks. What types do not say (headers, refusals, the fields of a form) is said beside the handler.

use super::http::{Answered, Asked, Desk, Visitor};
use crate::api::read;
use crate::wire::{Refusal, RefusalKind};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, RawQuery, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

/// A request that is answered.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, for people.
    pub(super) what: &'static str,
    pub(super) talk: Talk,
    pub(super) door: MethodRouter<Desk>,
}

/// What goes in and what comes out.
#[derive(Default)]
pub(super) struct Talk {
    pub(super) query: Option<Shape>,
    pub(super) headers: Vec<Header>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    /// Beside those that every route has.
    pub(super) refusals: &'static [RefusalKind],
    /// Whether it is let in by a signature, and by nothing else.
    pub(super) is_signed: bool,
}

/// Where a schema comes from.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A type.
    Of(fn(&mut SchemaGenerator) -> Schema),
    /// Names of fields, each a text.
    Fields(&'static [&'static str]),
    /// Nothing.
    Empty,
}

/// A header of the request.
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) is_required: bool,
    pub(super) what: &'static str,
}

/// What is sent.
pub(super) struct Body {
    pub(super) kinds: &'static [&'static str],
    pub(super) is_required: bool,
    pub(super) shape: Shape,
}

/// What comes back when it is done.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The media type.
    pub(super) kind: &'static str,
    pub(super) shape: Shape,
}

pub(super) const JSON: &str = "application/json";

impl Route {
    pub(super) fn get<H, Args, Types>(path: &'static str, what: &'static str, door: H) -> Route
    where
        H: Handler<Args, Desk> + Telling<Types>,
        Args: 'static,
    {
        Route { method: Method::GET, path, what, talk: H::talk(), door: get(door) }
    }

    pub(super) fn post<H, Args, Types>(path: &'static str, what: &'static str, door: H) -> Route
    where
        H: Handler<Args, Desk> + Telling<Types>,
        Args: 'static,
    {
        Route { method: Method::POST, path, what, talk: H::talk(), door: post(door) }
    }

    pub(super) fn refuses(mut self, refusals: &'static [RefusalKind]) -> Route {
        self.talk.refusals = refusals;
        self
    }

    pub(super) fn header(mut self, name: &'static str, is_required: bool, what: &'static str) -> Route {
        self.talk.headers.push(Header { name, is_required, what });
        self
    }

    /// For a handler that reads its body itself.
    pub(super) fn body(mut self, kinds: &'static [&'static str], is_required: bool, shape: Shape) -> Route {
        self.talk.body = Some(Body { kinds, is_required, shape });
        self
    }

    /// For a handler that reads its query itself.
    pub(super) fn query(mut self, shape: Shape) -> Route {
        self.talk.query = Some(shape);
        self
    }

    /// For a handler that makes its answer itself.
    pub(super) fn answers(mut self, status: StatusCode, kind: &'static str, shape: Shape) -> Route {
        self.talk.answers.push(Answer { status, kind, shape });
        self
    }

    pub(super) fn signed(mut self) -> Route {
        self.talk.is_signed = true;
        self
    }

    /// Largest body, bytes.
    pub(super) fn limit(mut self, bytes: usize) -> Route {
        self.door = self.door.layer(DefaultBodyLimit::max(bytes));
        self
    }
}

/// A body of JSON.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Desk> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Desk) -> Result<Sent<T>, Response> {
        let body = Bytes::from_request(request, desk).await.map_err(IntoResponse::into_response)?;
        read(body).map(Sent).map_err(IntoResponse::into_response)
    }
}

/// A body of JSON, or none, which is the default.
pub(super) struct Perhaps<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Desk> for Perhaps<T> {
    type Rejection = Response;

    async fn from_request(request: Request, desk: &Desk) -> Result<Perhaps<T>, Response> {
        let body = Bytes::from_request(request, desk).await.map_err(IntoResponse::into_response)?;
        let sent = if body.is_empty() { Ok(T::default()) } else { read(body) };
        sent.map(Perhaps).map_err(IntoResponse::into_response)
    }
}

/// A handler, by the types of what it takes and answers.
pub(super) trait Telling<Types> {
    fn talk() -> Talk;
}

macro_rules! telling {
    ($($arg:ident),*) => {
        impl<F, Told, $($arg,)*> Telling<($($arg,)*)> for F
        where
            F: FnOnce($($arg),*) -> Told,
            Told: Future<Output: Answers>,
            $($arg: Takes,)*
        {
            fn talk() -> Talk {
                let mut talk = Talk::default();
                $($arg::take(&mut talk);)*
                Told::Output::answer(&mut talk);
                talk
            }
        }
    };
}

telling!();
telling!(A);
telling!(A, B);
telling!(A, B, C);
telling!(A, B, C, D);

/// Something that a handler takes.
pub(super) trait Takes {
    fn take(_: &mut Talk) {}
}

impl<T> Takes for State<T> {}
impl<T> Takes for Path<T> {}
impl Takes for Visitor {}
impl Takes for HeaderMap {}
impl Takes for Bytes {}
impl Takes for RawQuery {}

impl<Q: JsonSchema> Takes for Asked<Q> {
    fn take(talk: &mut Talk) {
        talk.query = Some(Shape::Of(Q::json_schema));
    }
}

impl<T: JsonSchema> Takes for Sent<T> {
    fn take(talk: &mut Talk) {
        let shape = Shape::Of(SchemaGenerator::subschema_for::<T>);
        talk.body = Some(Body { kinds: &[JSON], is_required: true, shape });
    }
}

impl<T: JsonSchema> Takes for Perhaps<T> {
    fn take(talk: &mut Talk) {
        let shape = Shape::Of(SchemaGenerator::subschema_for::<T>);
        // Without the header that goes with a body, the request is refused.
        talk.body = Some(Body { kinds: &[JSON], is_required: true, shape });
    }
}

/// Something that a handler answers.
pub(super) trait Answers {
    fn answer(_: &mut Talk) {}
}

impl Answers for Result<Response, Refusal> {}

impl<T: JsonSchema> Answers for Answered<T> {
    fn answer(talk: &mut Talk) {
        let shape = Shape::Of(SchemaGenerator::subschema_for::<T>);
        talk.answers.push(Answer { status: StatusCode::OK, kind: JSON, shape });
    }
}

impl Answers for Result<String, Refusal> {
    fn answer(talk: &mut Talk) {
        let shape = Shape::Of(SchemaGenerator::subschema_for::<String>);
        talk.answers.push(Answer { status: StatusCode::OK, kind: "text/plain", shape });
    }
}
