//! Keys and values as text and as JSON. Both may be any bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regrow_store::{Event, EventKind, KeyValue};
use serde_json::{Map, Value, json};

/// Bytes on one line: UTF-8 as it is, except that control characters and backslashes are escaped, as `\n` and `\u{7f}`;
/// other bytes as `\xff`.
pub(super) fn line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A field of an object: text where it is UTF-8, else `<name>_base64`.
pub(super) fn field(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// A key with its value and its numbers.
pub(super) fn object(kv: &KeyValue) -> Map<String, Value> {
    let mut object = Map::new();
    field(&mut object, "key", &kv.key);
    field(&mut object, "value", &kv.value);
    numbers(&mut object, kv);
    object
}

/// A key's numbers. A lease is as etcd shows it, in hexadecimal.
pub(super) fn numbers(object: &mut Map<String, Value>, kv: &KeyValue) {
    object.insert("create_revision".into(), kv.create_revision.0.into());
    object.insert("mod_revision".into(), kv.mod_revision.0.into());
    object.insert("version".into(), kv.version.into());
    if kv.lease.0 != 0 {
        object.insert("lease".into(), kv.lease.to_string().into());
    }
}

/// An event as an object: `put` with the key as it is since, `delete` with key and revision.
pub(super) fn event(event: &Event) -> Value {
    let mut object = match event.kind {
        EventKind::Put => object(&event.kv),
        EventKind::Delete => {
            let mut object = Map::new();
            field(&mut object, "key", &event.kv.key);
            object.insert("mod_revision".into(), event.kv.mod_revision.0.into());
            object
        }
    };
    let mut out = Map::from_iter([("event".to_owned(), json!(verb(event.kind)))]);
    out.append(&mut object);
    Value::Object(out)
}

/// What happened, in one word.
pub(super) fn verb(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text stays as it is, what would break a line or is no text is escaped, and two values are never shown alike.
    #[test]
    fn any_bytes_fit_on_a_line() {
        for (bytes, expect) in [
            (&b"green"[..], "green"),
            ("gr\u{fc}n \u{1f33f}".as_bytes(), "gr\u{fc}n \u{1f33f}"),
            (b"a\nb\tc", "a\\nb\\tc"),
            (b"\\n", "\\\\n"),
            (b"a\xff\x00", "a\\xff\\u{0}"),
            (b"", ""),
        ] {
            assert_eq!(line(bytes), expect);
        }
    }
}
