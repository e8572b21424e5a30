//! How clients come in.

use std::fmt;
use std::sync::atomic::AtomicU64;

use tokio_rustls::TlsAcceptor;

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A password; an empty one is none.
    pub fn new(text: impl Into<Vec<u8>>) -> Option<Self> {
        Some(Self(text.into())).filter(|secret| !secret.0.is_empty())
    }

    /// Whether this is it. Takes as long for any text of the same length.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        let differs = self.0.iter().zip(text.iter().chain(std::iter::repeat(&0))).fold(0, |sum, (a, b)| sum | (a ^ b));
        differs == 0 && self.0.len() == text.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What all threads need to let a client in.
pub(crate) struct Doorway {
    pub(crate) password: Option<Secret>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) next_id: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let secret = Secret::new("abc").unwrap();
        assert!(secret.is(b"abc") && !secret.is(b"abd") && !secret.is(b"ab") && !secret.is(b"abc\0"));
        assert_eq!((Secret::new(""), format!("{secret:?}")), (None, "…".to_owned()));
    }
}
