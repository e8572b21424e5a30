//! JSON of a request into protobuf.
//!
//! The text is read once and the message written as it is read, so a request takes up about as much as its text,
//! whatever it says. What is not understood is passed over, as in etcd.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{Field, Kind, MessageId, Schema};

/// Writes the message that a JSON object is. An empty text is an empty message. What comes after the object is not
/// read, as in etcd.
///
/// Errors: a sentence that names the field and where in the text it is.
pub(super) fn message(schema: &Schema, id: MessageId, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(out);
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let seed = Whole { schema, id, out: &mut out };
    seed.deserialize(&mut json).map_err(|error| format!("the request is not the JSON of this call: {error}"))?;
    Ok(out)
}

/// A message: an object, or `null` for an empty one.
struct Whole<'a> {
    schema: &'a Schema,
    id: MessageId,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let schema = self.schema;
        while let Some(name) = map.next_key::<String>()? {
            match schema.message(self.id).named(&name) {
                Some(field) => map.next_value_seed(Value { schema, field, out: self.out, in_list: false })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The value of a field.
struct Value<'a> {
    schema: &'a Schema,
    field: &'a Field,
    out: &'a mut Vec<u8>,
    in_list: bool,
}

impl Value<'_> {
    fn key(&mut self, kind: WireType) {
        encode_key(self.field.tag, kind, self.out);
    }

    fn varint(&mut self, value: u64) {
        self.key(WireType::Varint);
        encode_varint(value, self.out);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.key(WireType::LengthDelimited);
        encode_varint(bytes.len() as u64, self.out);
        self.out.extend_from_slice(bytes);
    }

    fn wants_list(&self) -> bool {
        self.field.repeated && !self.in_list
    }

    fn wrong<E: Error>(&self, found: &dyn fmt::Display) -> E {
        E::custom(format_args!("`{}` is {found}, and should be {}", self.field.name, Wanted(self)))
    }

    fn number<E: Error>(mut self, value: i128, text: &dyn fmt::Display) -> Result<(), E> {
        let wire = match self.field.kind {
            _ if self.wants_list() => None,
            Kind::Int64 => i64::try_from(value).ok().map(|value| value as u64),
            Kind::Uint64 => u64::try_from(value).ok(),
            // Negative ones are sign-extended.
            Kind::Int32 | Kind::Enum(_) => i32::try_from(value).ok().map(|value| i64::from(value) as u64),
            Kind::Uint32 => u32::try_from(value).ok().map(u64::from),
            Kind::Bool | Kind::Text | Kind::Bytes | Kind::Message(_) => None,
        };
        self.varint(wire.ok_or_else(|| self.wrong(text))?);
        Ok(())
    }
}

/// What a field should be, in words.
struct Wanted<'a, 'b>(&'a Value<'b>);

impl fmt::Display for Wanted<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.wants_list() {
            return f.write_str("a list");
        }
        match self.0.field.kind {
            Kind::Bool => f.write_str("true or false"),
            Kind::Int32 | Kind::Int64 => f.write_str("a whole number, or one as a text"),
            Kind::Uint32 | Kind::Uint64 => f.write_str("a whole number from 0 on, or one as a text"),
            Kind::Text => f.write_str("a text"),
            Kind::Bytes => f.write_str("a text in base64"),
            Kind::Enum(id) => write!(f, "one of {}", self.0.schema.enumeration(id).names()),
            Kind::Message(_) => f.write_str("an object"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Wanted(self))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if self.field.kind != Kind::Bool || self.wants_list() {
            return Err(self.wrong(&value));
        }
        self.varint(u64::from(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(value.into(), &value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(value.into(), &value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Err(self.wrong(&format_args!("the number {value}")))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        // The text may be a secret, or long: it is not repeated.
        match self.field.kind {
            _ if self.wants_list() => return Err(self.wrong(&"a text")),
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Bytes => {
                let bytes = STANDARD.decode(text).map_err(|error| {
                    E::custom(format_args!("`{}` is not base64 with its padding: {error}", self.field.name))
                })?;
                self.bytes(&bytes);
            }
            Kind::Enum(id) => match self.schema.enumeration(id).number(text) {
                Some(number) => self.varint(i64::from(number) as u64),
                None => return Err(self.wrong(&"another text")),
            },
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => match text.parse::<i128>() {
                Ok(number) => return self.number(number, &number),
                Err(_) => return Err(self.wrong(&"a text that is none")),
            },
            Kind::Bool | Kind::Message(_) => return Err(self.wrong(&"a text")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.wants_list() {
            return Err(self.wrong(&"a list"));
        }
        let Value { schema, field, out, .. } = self;
        while list.next_element_seed(Value { schema, field, out, in_list: true })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(id) = self.field.kind else { return Err(self.wrong(&"an object")) };
        if self.wants_list() {
            return Err(self.wrong(&"an object"));
        }
        self.key(WireType::LengthDelimited);
        let start = self.out.len();
        Whole { schema: self.schema, id, out: self.out }.visit_map(map)?;
        let mut length = Vec::new();
        encode_varint((self.out.len() - start) as u64, &mut length);
        self.out.splice(start..start, length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use regrow_store::proto::{DESCRIPTORS, etcdserverpb as pb};

    use super::*;

    fn read<T: Message + Default>(method: &str, text: &str) -> Result<T, String> {
        let schema = Schema::read(DESCRIPTORS).expect("descriptors");
        let id = schema.method(method).expect("a method").input;
        message(&schema, id, text.as_bytes()).map(|bytes| T::decode(&bytes[..]).expect("a message"))
    }

    /// Both spellings of names, numbers as texts, base64, enumerations by name and number, `null`; what is not known is
    /// passed over.
    #[test]
    fn requests_are_read() {
        let put: pb::PutRequest =
            read("etcdserverpb.KV/Put", r#"{"key":"Zm9v","prevKv":true,"lease":"-7","junk":[{"a":1}],"value":null} x"#)
                .expect("JSON");
        let expect = pb::PutRequest { key: "foo".into(), prev_kv: true, lease: -7, ..Default::default() };
        assert_eq!(put, expect);
        let range = |text| read::<pb::RangeRequest>("etcdserverpb.KV/Range", text).expect("JSON");
        assert_eq!(range(r#"{"limit":3,"sort_order":"DESCEND","sort_target":2}"#).limit, 3);
        assert_eq!(range(r#"{"sort_order":99}"#).sort_order, 99, "the service decides");
        assert_eq!(range(" "), range("null"));
        let txn: pb::TxnRequest = read(
            "etcdserverpb.KV/Txn",
            r#"{"compare":[{"target":"VERSION","key":"YQ==","version":"0"}],
                "success":[{"request_txn":{"success":[{"requestPut":{"key":"YQ=="}}]}},{}]}"#,
        )
        .expect("JSON");
        assert_eq!(txn.compare[0].target_union, Some(pb::compare::TargetUnion::Version(0)), "zero, but given");
        let Some(pb::request_op::Request::RequestTxn(nested)) = &txn.success[0].request else { panic!("{txn:?}") };
        assert!(nested.success[0].request.is_some() && txn.success.len() == 2);
    }

    /// Where each mistake is, and what would be right.
    #[test]
    fn mistakes_are_told() {
        for (text, expect) in [
            ("[]", "invalid type: sequence, expected an object"),
            ("{", "EOF while parsing an object"),
            (r#"{"limit":1.5}"#, "`limit` is the number 1.5, and should be a whole number, or one as a text"),
            (r#"{"limit":"9223372036854775808"}"#, "`limit` is 9223372036854775808, and should be a whole number"),
            (r#"{"limit":"x"}"#, "`limit` is a text that is none, and should be a whole number"),
            (r#"{"limit":[1]}"#, "`limit` is a list, and should be a whole number"),
            (r#"{"key":5}"#, "`key` is 5, and should be a text in base64"),
            (r#"{"key":"Zm9vCg"}"#, "`key` is not base64 with its padding"),
            (r#"{"key":"-_8="}"#, "`key` is not base64 with its padding"),
            (r#"{"serializable":"true"}"#, "`serializable` is a text, and should be true or false"),
            (r#"{"sort_order":"descend"}"#, "`sort_order` is another text, and should be one of NONE, ASCEND, DESCEND"),
            (r#"{"key":{}}"#, "`key` is an object, and should be a text in base64"),
        ] {
            let error = read::<pb::RangeRequest>("etcdserverpb.KV/Range", text).expect_err(text);
            assert!(
                error.starts_with("the request is not the JSON of this call: ") && error.contains(expect),
                "{error}"
            );
        }
        let error = read::<pb::TxnRequest>("etcdserverpb.KV/Txn", r#"{"compare":{}}"#).expect_err("no list");
        assert!(error.contains("`compare` is an object, and should be a list"), "{error}");
        // As deep as the parser goes, and no deeper.
        let deep = r#"{"success":[{"request_txn":"#.repeat(1000);
        let error = read::<pb::TxnRequest>("etcdserverpb.KV/Txn", &deep).expect_err("too deep");
        assert!(error.contains("recursion limit"), "{error}");
    }
}
