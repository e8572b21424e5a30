//! What a client asks of a node.
//!
//! Source: etcd's `parseKeyRequest` and `applierV2store`, in this order of checks, with these texts.

use axum::http::Method;
use bytes::Bytes;

use super::{
    form::{Form, unescape},
    path::Path,
    refused::{Code, Refused},
};
use crate::etcd::limits::V2_DEPTH_MAX;

/// A request for a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read(Read),
    Wait(Wait),
    Write(Write),
}

/// Reads a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) path: Path,
    /// With all beneath.
    pub(super) recursive: bool,
}

/// Waits for something to happen to a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) path: Path,
    /// Or to one beneath.
    pub(super) recursive: bool,
    /// Go on after the first event.
    pub(super) stream: bool,
    /// The first index wanted; 0: what happens from now on.
    pub(super) index: u64,
}

/// Changes a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) path: Path,
    pub(super) verb: Verb,
    /// Seconds to live; without it the node stays.
    pub(super) ttl: Option<u64>,
    /// Keep the value, and tell no watcher.
    pub(super) refresh: bool,
    /// Answer without the node.
    pub(super) brief: bool,
}

/// How a node is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    /// Puts it, whatever was there, unless that is a directory.
    Set(Content),
    /// Puts it if nothing is there.
    Create(Content),
    /// Puts a node in this directory, under a name that comes after all such names before.
    Append(Content),
    /// Changes what is there.
    Update(Bytes),
    /// Changes a file that is as expected.
    Swap(Expected, Bytes),
    /// Takes it away.
    Delete { dir: bool, recursive: bool },
    /// Takes a file away that is as expected.
    CompareDelete(Expected),
}

/// What a node is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(Bytes),
    Dir,
}

/// How a file is expected to be; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) value: Option<Bytes>,
    pub(super) index: Option<u64>,
}

impl Request {
    /// Reads a request. `name` is what follows `/v2/keys`, as it was sent; `body` is empty unless it is a form.
    pub(super) fn parse(method: &Method, name: &str, query: &str, body: &[u8]) -> Result<Self, Refused> {
        let form = Form::parse(body, query.as_bytes());
        let form = form.map_err(|error| Refused::request(Code::InvalidForm, error))?;
        let name = unescape(name.as_bytes(), false).map_err(|error| Refused::request(Code::InvalidForm, error))?;
        let number = |field: &str| form.number(field).map_err(|_| invalid(Code::IndexNotANumber, field));
        let prev_index = number("prevIndex")?.filter(|index| *index > 0);
        let index = number("waitIndex")?.unwrap_or(0);
        let flag = |field: &str| {
            let flag = form.flag(field).map_err(|_| invalid(Code::InvalidField, field));
            flag.map(|flag| flag.unwrap_or(false))
        };
        let recursive = flag("recursive")?;
        flag("sorted")?;
        let wait = flag("wait")?;
        let dir = flag("dir")?;
        flag("quorum")?;
        let stream = flag("stream")?;
        if wait && method != Method::GET {
            return Err(Refused::request(Code::InvalidField, r#""wait" can only be used with GET requests"#));
        }
        let prev_value = form.get("prevValue");
        if prev_value == Some(b"") {
            return Err(Refused::request(Code::PrevValueRequired, r#""prevValue" cannot be empty"#));
        }
        let brief = flag("noValueOnSuccess")?;
        let ttl = match form.get("ttl") {
            None | Some(b"") => None,
            Some(_) => form.number("ttl").map_err(|_| invalid(Code::TtlNotANumber, "ttl"))?,
        };
        let nullable = |field: &str| {
            let wrong = || Refused::request(Code::InvalidField, format!("invalid value for {field}"));
            form.flag(field).map_err(|_| wrong())
        };
        let exists = nullable("prevExist")?;
        let refresh = nullable("refresh")?.unwrap_or(false);
        let value = form.get("value").unwrap_or(b"");
        if refresh && !value.is_empty() {
            return Err(Refused::request(Code::RefreshValue, "A value was provided on a refresh"));
        }
        if refresh && ttl.is_none() {
            return Err(Refused::request(Code::RefreshTtlRequired, "No TTL value set"));
        }
        let path = Path::clean(&name).ok_or_else(|| {
            Refused::request(Code::InvalidForm, format!("a key of more than {V2_DEPTH_MAX} parts is not offered"))
        })?;
        let value = || Bytes::copy_from_slice(value);
        let content = || if dir { Content::Dir } else { Content::File(value()) };
        let expected = (prev_index.is_some() || prev_value.is_some())
            .then(|| Expected { value: prev_value.map(Bytes::copy_from_slice), index: prev_index });
        let verb = match (method, expected, exists) {
            (&Method::GET, ..) if wait => return Ok(Self::Wait(Wait { path, recursive, stream, index })),
            (&Method::GET | &Method::HEAD, ..) => return Ok(Self::Read(Read { path, recursive })),
            (&Method::POST, ..) => Verb::Append(content()),
            (&Method::DELETE, Some(expected), _) => Verb::CompareDelete(expected),
            (&Method::DELETE, None, _) => Verb::Delete { dir, recursive },
            (_, _, Some(false)) => Verb::Create(content()),
            (_, Some(expected), _) => Verb::Swap(expected, value()),
            (_, None, Some(true)) => Verb::Update(value()),
            (_, None, None) => Verb::Set(content()),
        };
        Ok(Self::Write(Write { path, verb, ttl, refresh, brief }))
    }
}

fn invalid(code: Code, field: &str) -> Refused {
    Refused::request(code, format!(r#"invalid value for "{field}""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: Method, query: &str, body: &str) -> Option<(Code, String)> {
        let refused = Request::parse(&method, "/a", query, body.as_bytes()).err()?;
        Some((refused.code, refused.cause))
    }

    /// What makes no sense is refused with etcd's numbers and causes.
    #[test]
    fn nonsense_is_refused_as_etcd_refuses_it() {
        for (query, code, cause) in [
            ("prevIndex=x", Code::IndexNotANumber, r#"invalid value for "prevIndex""#),
            ("waitIndex=-1", Code::IndexNotANumber, r#"invalid value for "waitIndex""#),
            ("recursive=maybe", Code::InvalidField, r#"invalid value for "recursive""#),
            ("wait=true", Code::InvalidField, r#""wait" can only be used with GET requests"#),
            ("prevValue=", Code::PrevValueRequired, r#""prevValue" cannot be empty"#),
            ("ttl=soon", Code::TtlNotANumber, r#"invalid value for "ttl""#),
            ("prevExist=maybe", Code::InvalidField, "invalid value for prevExist"),
            ("refresh=maybe", Code::InvalidField, "invalid value for refresh"),
            ("refresh=true&value=x&ttl=1", Code::RefreshValue, "A value was provided on a refresh"),
            ("refresh=true", Code::RefreshTtlRequired, "No TTL value set"),
            ("a=%zz", Code::InvalidForm, r#"invalid URL escape "%zz""#),
        ] {
            assert_eq!(refusal(Method::PUT, query, ""), Some((code, cause.to_owned())), "{query}");
        }
    }

    /// Fields decide the verb as they do in etcd.
    #[test]
    fn fields_decide_the_verb() {
        let verb = |method: Method, query: &str| match Request::parse(&method, "/a", query, b"value=v").expect("sense")
        {
            Request::Write(write) => write.verb,
            other => panic!("{other:?}"),
        };
        let file = || Content::File("v".into());
        let expected =
            |value: Option<&str>, index| Expected { value: value.map(|value| value.to_owned().into()), index };
        assert_eq!(verb(Method::PUT, ""), Verb::Set(file()));
        assert_eq!(verb(Method::PUT, "dir=true"), Verb::Set(Content::Dir));
        assert_eq!(verb(Method::PUT, "prevExist=false&prevValue=x"), Verb::Create(file()));
        assert_eq!(verb(Method::PUT, "prevExist=true"), Verb::Update("v".into()));
        assert_eq!(verb(Method::PUT, "prevExist=true&prevIndex=7"), Verb::Swap(expected(None, Some(7)), "v".into()));
        assert_eq!(verb(Method::PUT, "prevValue=x&prevIndex=0"), Verb::Swap(expected(Some("x"), None), "v".into()));
        assert_eq!(verb(Method::POST, "prevExist=false"), Verb::Append(file()));
        assert_eq!(verb(Method::DELETE, "dir=1"), Verb::Delete { dir: true, recursive: false });
        assert_eq!(verb(Method::DELETE, "prevIndex=3"), Verb::CompareDelete(expected(None, Some(3))));
    }
}
