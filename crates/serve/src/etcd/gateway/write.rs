//! Protobuf of an answer into JSON, as etcd's gateway writes it: names as the interface has them, 64-bit numbers as
//! texts, bytes in base64, and nothing for a field that is not there.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::encoding::{WireType, decode_key, decode_varint};

use super::schema::{Field, Kind, MessageId, Schema};

/// The message is not what it should be; only a fault of the server's own makes one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends a message as a JSON object. The fields of one name must stand together, as encoders write them.
pub(super) fn object(schema: &Schema, id: MessageId, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.push(b'{');
    // The field before, and whether its list is open.
    let mut before: Option<(u32, bool)> = None;
    while !bytes.is_empty() {
        let (tag, wire) = decode_key(&mut bytes).map_err(|_| Malformed)?;
        let Some(field) = schema.message(id).tagged(tag) else {
            raw(wire, &mut bytes)?;
            continue;
        };
        match before {
            Some((same, true)) if same == tag => out.push(b','),
            _ => {
                close(before, out);
                if before.is_some() {
                    out.push(b',');
                }
                text(&field.name, out);
                out.push(b':');
                if field.repeated {
                    out.push(b'[');
                }
                before = Some((tag, field.repeated));
            }
        }
        match raw(wire, &mut bytes)? {
            Raw::Number(number) => scalar(schema, field, number, out)?,
            Raw::Bytes(value) => match field.kind {
                Kind::Text => text(std::str::from_utf8(value).map_err(|_| Malformed)?, out),
                Kind::Bytes => base64(value, out),
                Kind::Message(nested) => object(schema, nested, value, out)?,
                _ if field.repeated => packed(schema, field, value, out)?,
                _ => return Err(Malformed),
            },
        }
    }
    close(before, out);
    out.push(b'}');
    Ok(())
}

fn close(before: Option<(u32, bool)>, out: &mut Vec<u8>) {
    if let Some((_, true)) = before {
        out.push(b']');
    }
}

enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn raw<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Result<Raw<'a>, Malformed> {
    let value = decode_varint(bytes).map_err(|_| Malformed)?;
    match wire {
        WireType::Varint => Ok(Raw::Number(value)),
        WireType::LengthDelimited => {
            let length = usize::try_from(value).map_err(|_| Malformed)?;
            let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
            *bytes = rest;
            Ok(Raw::Bytes(value))
        }
        // No message of etcd's has others.
        _ => Err(Malformed),
    }
}

fn packed(schema: &Schema, field: &Field, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut first = true;
    while !bytes.is_empty() {
        if !first {
            out.push(b',');
        }
        first = false;
        scalar(schema, field, decode_varint(&mut bytes).map_err(|_| Malformed)?, out)?;
    }
    Ok(())
}

fn scalar(schema: &Schema, field: &Field, number: u64, out: &mut Vec<u8>) -> Result<(), Malformed> {
    match field.kind {
        Kind::Bool => out.extend_from_slice(if number == 0 { b"false" } else { b"true" }),
        Kind::Int64 => out.extend(format!("\"{}\"", number as i64).bytes()),
        Kind::Uint64 => out.extend(format!("\"{number}\"").bytes()),
        Kind::Int32 => out.extend((number as i32).to_string().bytes()),
        Kind::Uint32 => out.extend((number as u32).to_string().bytes()),
        Kind::Enum(id) => match schema.enumeration(id).name(number as i32) {
            Some(name) => text(name, out),
            None => out.extend((number as i32).to_string().bytes()),
        },
        Kind::Text | Kind::Bytes | Kind::Message(_) => return Err(Malformed),
    }
    Ok(())
}

/// A JSON string.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    // Writing a text into memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what it takes.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use regrow_store::proto::{DESCRIPTORS, etcdserverpb as pb, mvccpb};

    use super::*;

    fn written(method: &str, message: &impl Message) -> String {
        let schema = Schema::read(DESCRIPTORS).expect("descriptors");
        let id = schema.method(method).expect("a method").output;
        let mut out = Vec::new();
        object(&schema, id, &message.encode_to_vec(), &mut out).expect("it is written");
        String::from_utf8(out).expect("UTF-8")
    }

    /// An answer as etcd's gateway has it, to the letter.
    #[test]
    fn answers_are_written() {
        let kv = |key: &'static str| mvccpb::KeyValue { key: key.into(), mod_revision: 6, ..Default::default() };
        let header = pb::ResponseHeader { cluster_id: u64::MAX, revision: -1, ..Default::default() };
        let range = pb::RangeResponse { header: Some(header), kvs: vec![kv("foo"), kv("\"")], more: true, count: 2 };
        let expect = r#"{"header":{"cluster_id":"18446744073709551615","revision":"-1"},"kvs":[{"key":"Zm9v","mod_revision":"6"},{"key":"Ig==","mod_revision":"6"}],"more":true,"count":"2"}"#;
        assert_eq!(written("etcdserverpb.KV/Range", &range), expect);
        assert_eq!(written("etcdserverpb.KV/Range", &pb::RangeResponse::default()), "{}");
        let put = pb::response_op::Response::ResponsePut(pb::PutResponse::default());
        let txn = pb::TxnResponse {
            responses: vec![pb::ResponseOp { response: Some(put) }, pb::ResponseOp::default()],
            ..Default::default()
        };
        assert_eq!(written("etcdserverpb.KV/Txn", &txn), r#"{"responses":[{"response_put":{}},{}]}"#);
        let delete = mvccpb::Event { r#type: 1, kv: Some(kv("a")), prev_kv: None };
        let watch = pb::WatchResponse { events: vec![delete], cancel_reason: "a\"\n".into(), ..Default::default() };
        let expect = r#"{"cancel_reason":"a\"\n","events":[{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"6"}}]}"#;
        assert_eq!(written("etcdserverpb.Watch/Watch", &watch), expect);
        let hash = pb::HashKvResponse { hash: u32::MAX, ..Default::default() };
        assert_eq!(written("etcdserverpb.Maintenance/HashKV", &hash), r#"{"hash":4294967295}"#);
    }

    /// Noise is told from a message, whatever it is, or written as some object; it never panics.
    #[test]
    fn noise_is_no_message() {
        let schema = Schema::read(DESCRIPTORS).expect("descriptors");
        let id = schema.method("etcdserverpb.KV/Txn").expect("a method").output;
        for seed in 0..2000_u32 {
            let noise: Vec<u8> = (0..seed % 40).map(|n| (n * n * 7 + seed * (n + 3)) as u8).collect();
            let mut out = Vec::new();
            if object(&schema, id, &noise, &mut out).is_ok() {
                serde_json::from_slice::<serde_json::Value>(&out).unwrap_or_else(|error| panic!("{noise:?}: {error}"));
            }
        }
        let mut out = Vec::new();
        assert_eq!(object(&schema, id, b"\x0a\x05", &mut out), Err(Malformed));
    }
}
