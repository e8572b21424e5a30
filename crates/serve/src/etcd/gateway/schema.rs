//! What messages look like, from their descriptors.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Messages, enumerations and methods, by their full names and by number.
#[derive(Debug, Default)]
pub(super) struct Schema {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    methods: BTreeMap<String, Method>,
}

/// A message, by its place in the schema.
pub(super) type MessageId = usize;

/// An enumeration, by its place in the schema.
pub(super) type EnumId = usize;

#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) tag: u32,
    /// As the interface writes it; answers have it so.
    pub(super) name: String,
    /// In camel case; taken in requests too.
    json: String,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Text,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

#[derive(Debug, Default)]
pub(super) struct Enum {
    values: Vec<(String, i32)>,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) input: MessageId,
    pub(super) output: MessageId,
    /// The client sends a stream of messages.
    pub(super) asks_many: bool,
    /// The server answers with one.
    pub(super) answers_many: bool,
}

impl Schema {
    /// Reads an encoded `FileDescriptorSet`. `None`: it is none, or names what it does not have.
    pub(super) fn read(bytes: &[u8]) -> Option<Schema> {
        let set = FileDescriptorSet::decode(bytes).ok()?;
        let (mut schema, mut names) = (Schema::default(), Names::default());
        let mut described = Vec::new();
        for file in &set.file {
            let package = format!(".{}", file.package());
            for kind in &file.enum_type {
                schema.enum_of(&package, kind, &mut names);
            }
            for message in &file.message_type {
                schema.enter(&package, message, &mut names, &mut described);
            }
        }
        for (id, message) in described {
            schema.messages[id].fields = fields(message, &names)?;
        }
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let method = Method {
                        input: *names.messages.get(method.input_type())?,
                        output: *names.messages.get(method.output_type())?,
                        asks_many: method.client_streaming(),
                        answers_many: method.server_streaming(),
                    };
                    schema.methods.insert(name, method);
                }
            }
        }
        Some(schema)
    }

    /// A method by `package.Service/Name`.
    pub(super) fn method(&self, name: &str) -> Option<Method> {
        self.methods.get(name).copied()
    }

    pub(super) fn message(&self, id: MessageId) -> &Message {
        &self.messages[id]
    }

    pub(super) fn enumeration(&self, id: EnumId) -> &Enum {
        &self.enums[id]
    }

    fn enter<'a>(
        &mut self,
        scope: &str,
        message: &'a DescriptorProto,
        names: &mut Names,
        described: &mut Vec<(MessageId, &'a DescriptorProto)>,
    ) {
        let name = format!("{scope}.{}", message.name());
        names.messages.insert(name.clone(), self.messages.len());
        described.push((self.messages.len(), message));
        self.messages.push(Message::default());
        for kind in &message.enum_type {
            self.enum_of(&name, kind, names);
        }
        for nested in &message.nested_type {
            self.enter(&name, nested, names, described);
        }
    }

    fn enum_of(&mut self, scope: &str, kind: &prost_types::EnumDescriptorProto, names: &mut Names) {
        names.enums.insert(format!("{scope}.{}", kind.name()), self.enums.len());
        let values = kind.value.iter().map(|value| (value.name().to_owned(), value.number())).collect();
        self.enums.push(Enum { values });
    }
}

#[derive(Default)]
struct Names {
    messages: BTreeMap<String, MessageId>,
    enums: BTreeMap<String, EnumId>,
}

fn fields(message: &DescriptorProto, names: &Names) -> Option<Vec<Field>> {
    let field = |field: &prost_types::FieldDescriptorProto| {
        let kind = match field.r#type() {
            Type::Bool => Kind::Bool,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            Type::Uint32 => Kind::Uint32,
            Type::Uint64 => Kind::Uint64,
            Type::String => Kind::Text,
            Type::Bytes => Kind::Bytes,
            Type::Enum => Kind::Enum(*names.enums.get(field.type_name())?),
            Type::Message => Kind::Message(*names.messages.get(field.type_name())?),
            // No message of etcd's has others.
            _ => return None,
        };
        Some(Field {
            tag: u32::try_from(field.number()).ok()?,
            name: field.name().to_owned(),
            json: field.json_name().to_owned(),
            kind,
            repeated: field.label() == Label::Repeated,
        })
    };
    message.field.iter().map(field).collect()
}

impl Message {
    /// A field by a name that a request may give it.
    pub(super) fn named(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name || field.json == name)
    }

    pub(super) fn tagged(&self, tag: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.tag == tag)
    }
}

impl Enum {
    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }

    pub(super) fn name(&self, number: i32) -> Option<&str> {
        self.values.iter().find(|(_, known)| *known == number).map(|(name, _)| &name[..])
    }

    /// All names, for a message.
    pub(super) fn names(&self) -> String {
        self.values.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything of etcd's interface that is described here can be read and written.
    #[test]
    fn the_interface_is_described() {
        let schema = Schema::read(regrow_store::proto::DESCRIPTORS).expect("descriptors");
        let watch = schema.method("etcdserverpb.Watch/Watch").expect("a method");
        assert!(watch.asks_many && watch.answers_many);
        let put = schema.method("etcdserverpb.KV/Put").expect("a method");
        assert!(!put.asks_many && !put.answers_many);
        let put = schema.message(put.input);
        let field = |name| put.named(name).map(|field| (field.tag, field.kind, field.repeated));
        assert_eq!(field("prev_kv"), Some((4, Kind::Bool, false)));
        assert_eq!(field("prevKv"), field("prev_kv"));
        assert_eq!((field("value"), field("junk")), (Some((2, Kind::Bytes, false)), None));
    }

    /// What is no set of descriptors is told to be none.
    #[test]
    fn noise_is_no_schema() {
        let bytes = regrow_store::proto::DESCRIPTORS;
        assert!(Schema::read(&bytes[..bytes.len() / 2]).is_none());
        assert!(Schema::read(b"\xff\xff").is_none());
    }
}
