//! What a request shows.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use std::borrow::Cow;

/// The metadata that etcd's clients put their token in.
const TOKEN: &str = "token";

/// Longest value that is looked at; a token has 47 bytes.
const BYTES_MAX: usize = 4096;

/// The two headers that may carry a token, as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown<'a> {
    authorization: Option<&'a [u8]>,
    token: Option<&'a [u8]>,
}

impl<'a> Shown<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Shown<'a> {
        let bytes = |value: &'a HeaderValue| value.as_bytes();
        Shown { authorization: headers.get(header::AUTHORIZATION).map(bytes), token: headers.get(TOKEN).map(bytes) }
    }

    /// The token: of `authorization: Bearer TOKEN`, of `authorization: Basic` the password, of `authorization: TOKEN` and
    /// `token: TOKEN` (as etcd's clients send it) the value. What is nothing of that is given as it is, to be refused.
    pub(crate) fn token(self) -> Option<Cow<'a, str>> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or("").trim();
        let Some(authorization) = self.authorization.filter(|value| !value.is_empty()) else {
            return self.token.filter(|value| !value.is_empty()).map(|value| text(value).into());
        };
        if authorization.len() > BYTES_MAX {
            return Some("".into());
        }
        let value = text(authorization);
        match value.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Some(rest.trim().into()),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => Some(password(rest.trim()).into()),
            _ => Some(value.into()),
        }
    }

    /// A copy to compare later ones with.
    pub(crate) fn kept(self) -> Kept {
        Kept { authorization: self.authorization.map(Into::into), token: self.token.map(Into::into) }
    }
}

fn password(encoded: &str) -> String {
    let decoded = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_owned())).unwrap_or_default()
}

/// What a request showed, kept for those that follow on its connection. It is not printed.
pub(crate) struct Kept {
    authorization: Option<Box<[u8]>>,
    token: Option<Box<[u8]>>,
}

impl Kept {
    /// Whether the same is shown. Who compares is on the connection that showed it, so the time it takes tells nothing
    /// that its other end does not know.
    pub(crate) fn is(&self, shown: Shown<'_>) -> bool {
        self.authorization.as_deref() == shown.authorization && self.token.as_deref() == shown.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which clients show a token, and what is none.
    #[test]
    fn ways_of_showing() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for (authorization, token, expect) in [
            (None, None, None),
            (Some("Bearer abc".to_owned()), None, Some("abc")),
            (Some("bearer  abc ".to_owned()), None, Some("abc")),
            (Some("abc".to_owned()), None, Some("abc")),
            (None, Some("abc"), Some("abc")),
            (Some(basic("ann:abc")), None, Some("abc")),
            (Some(basic("ann:a:c")), None, Some("a:c")),
            (Some(basic("ann")), None, Some("")),
            (Some("Basic !".to_owned()), None, Some("")),
            (Some("Bearer abc".to_owned()), Some("other"), Some("abc")),
            (Some(String::new()), Some(""), None),
            (Some("x".repeat(BYTES_MAX + 1)), None, Some("")),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = &authorization {
                headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
            }
            if let Some(value) = token {
                headers.insert(TOKEN, value.parse().expect("a value"));
            }
            let shown = Shown::of(&headers);
            assert_eq!(shown.token().as_deref(), expect, "{authorization:?} {token:?}");
            assert!(shown.kept().is(shown));
        }
    }
}
