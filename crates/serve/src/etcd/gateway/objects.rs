//! JSON objects one after the other, as they come.

use bytes::{Bytes, BytesMut};

use crate::etcd::limits::GATEWAY_OBJECT_BYTES_MAX;

/// Finds where each object of a stream ends. Every byte is looked at once; no more than one object is kept.
#[derive(Debug, Default)]
pub(super) struct Objects {
    held: BytesMut,
    /// Of `held`: what was looked at.
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Objects {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole object, if it is there.
    ///
    /// Errors: what comes is no object, or too large a one; then nothing more is of use.
    pub(super) fn pop(&mut self) -> Result<Option<Bytes>, String> {
        while let Some(byte) = self.held.get(self.seen).copied() {
            if self.depth == 0 && byte.is_ascii_whitespace() {
                let _ = self.held.split_to(1);
                continue;
            }
            if self.depth == 0 && byte != b'{' {
                return Err("the request should be JSON objects, one after the other".to_owned());
            }
            self.seen += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.held.split_to(std::mem::take(&mut self.seen)).freeze()));
                    }
                }
                _ => {}
            }
            if self.seen > GATEWAY_OBJECT_BYTES_MAX {
                return Err(format!("an object of a stream has at most {GATEWAY_OBJECT_BYTES_MAX} bytes"));
            }
        }
        Ok(None)
    }

    /// Whether nothing is begun and not ended.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8], piece: usize) -> (Vec<String>, Result<bool, String>) {
        let (mut objects, mut all) = (Objects::default(), Vec::new());
        for piece in text.chunks(piece) {
            objects.push(piece);
            loop {
                match objects.pop() {
                    Ok(Some(object)) => all.push(String::from_utf8(object.to_vec()).expect("UTF-8")),
                    Ok(None) => break,
                    Err(error) => return (all, Err(error)),
                }
            }
        }
        (all, Ok(objects.is_empty()))
    }

    /// However the text is cut on its way, the same objects are found.
    #[test]
    fn objects_are_found() {
        for piece in [1, 3, 1000] {
            let text = b" {\"a\":{\"b\":[1,{}]}}\n{\"}\\\"{\":\"\\\\\"}{}  ";
            let (all, end) = found(text, piece);
            assert_eq!(all, ["{\"a\":{\"b\":[1,{}]}}", "{\"}\\\"{\":\"\\\\\"}", "{}"]);
            assert_eq!(end, Ok(true));
            assert_eq!(found(b"{}{\"a\":", piece), (vec!["{}".to_owned()], Ok(false)));
            assert_eq!(found(b"{}]", piece).1.expect_err("no object").split(' ').next(), Some("the"));
            assert_eq!(found(b"null", piece).0.len(), 0);
            // Brackets that do not fit each other are for the parser to refuse.
            assert_eq!(found(b"{]{]", piece).0, ["{]", "{]"]);
        }
    }

    /// An object that never ends is given up.
    #[test]
    fn an_object_without_end_is_refused() {
        let text = [&b"{\""[..], &vec![b'x'; 2 * GATEWAY_OBJECT_BYTES_MAX]].concat();
        let (all, end) = found(&text, 1000);
        assert!(all.is_empty() && end.expect_err("too large").contains("at most"));
    }
}
