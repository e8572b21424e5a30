//! What clients send.

use regrow_gossip::limits::{FILTERS_MAX, NAME_BYTES_MAX, USER_EVENT_BYTES_MAX};
use regrow_gossip::wire::{Reader, Tags, WireError};

/// Longest text in a request that is not a payload: a regular expression, an address, a key.
const TEXT_BYTES_MAX: usize = 4_096;
/// Most addresses of one join, or tags of one change.
const ITEMS_MAX: usize = 1_024;

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) command: String,
    pub(super) seq: u64,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Handshake { version: u64 },
    Auth { key: String },
    Event { name: String, payload: Vec<u8>, coalesce: bool },
    ForceLeave { node: String, prune: bool },
    Join { existing: Vec<String>, replay: bool },
    Members { name: String, status: String, tags: Tags },
    Tags { set: Tags, delete: Vec<String> },
    Stream { filter: String },
    Monitor { level: String },
    Stop { seq: u64 },
    Leave,
    Query(Query),
    Respond { id: u64, payload: Vec<u8> },
    Key { op: KeyVerb, key: String },
    Stats,
    Coordinate { node: String },
    Unknown,
}

/// What is done to keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyVerb {
    Install,
    Use,
    Remove,
    List,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Query {
    pub(super) nodes: Vec<String>,
    pub(super) tags: Tags,
    pub(super) ack: bool,
    pub(super) relay_factor: u8,
    pub(super) timeout_ns: u64,
    pub(super) name: String,
    pub(super) payload: Vec<u8>,
}

/// Reads one request; [`WireError::Truncated`] means that more has to come.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<(Header, Request), WireError> {
    let (mut command, mut seq) = (String::new(), 0);
    reader.fields(|name, reader| {
        match name {
            b"Command" => command = reader.text("Command", NAME_BYTES_MAX)?,
            b"Seq" => seq = reader.uint("Seq")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let request = body(&command, reader)?;
    Ok((Header { command, seq }, request))
}

fn body(command: &str, reader: &mut Reader<'_>) -> Result<Request, WireError> {
    let mut fields = Fields::default();
    Ok(match command {
        "leave" => Request::Leave,
        "stats" => Request::Stats,
        "members" => Request::Members { name: String::new(), status: String::new(), tags: Tags::new() },
        "list-keys" => Request::Key { op: KeyVerb::List, key: String::new() },
        "handshake" | "auth" | "event" | "force-leave" | "join" | "members-filtered" | "tags" | "stream"
        | "monitor" | "stop" | "query" | "respond" | "install-key" | "use-key" | "remove-key" | "get-coordinate" => {
            fields.read(reader)?;
            fields.request(command)
        }
        _ => Request::Unknown,
    })
}

/// All fields that any body has. Their names mean the same everywhere.
#[derive(Default)]
struct Fields {
    query: Query,
    version: u64,
    auth_key: String,
    coalesce: bool,
    node: String,
    prune: bool,
    existing: Vec<String>,
    replay: bool,
    status: String,
    delete: Vec<String>,
    kind: String,
    level: String,
    stop: u64,
    id: u64,
    key: String,
}

impl Fields {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        reader.fields(|name, reader| {
            match name {
                b"Version" => self.version = reader.uint("Version")?,
                b"AuthKey" => self.auth_key = reader.text("AuthKey", TEXT_BYTES_MAX)?,
                b"Name" => self.query.name = reader.text("Name", TEXT_BYTES_MAX)?,
                b"Payload" => self.query.payload = reader.bytes("Payload", 2 * USER_EVENT_BYTES_MAX)?,
                b"Coalesce" => self.coalesce = reader.bool()?,
                b"Node" => self.node = reader.text("Node", TEXT_BYTES_MAX)?,
                b"Prune" => self.prune = reader.bool()?,
                b"Existing" => self.existing = texts("Existing", reader)?,
                b"Replay" => self.replay = reader.bool()?,
                b"Status" => self.status = reader.text("Status", TEXT_BYTES_MAX)?,
                b"Tags" | b"FilterTags" => self.query.tags = tags(reader)?,
                b"DeleteTags" => self.delete = texts("DeleteTags", reader)?,
                b"FilterNodes" => self.query.nodes = texts("FilterNodes", reader)?,
                b"RequestAck" => self.query.ack = reader.bool()?,
                b"RelayFactor" => self.query.relay_factor = reader.u8("RelayFactor")?,
                b"Timeout" => self.query.timeout_ns = reader.uint("Timeout")?,
                b"Type" => self.kind = reader.text("Type", TEXT_BYTES_MAX)?,
                b"LogLevel" => self.level = reader.text("LogLevel", NAME_BYTES_MAX)?,
                b"Stop" => self.stop = reader.uint("Stop")?,
                b"ID" => self.id = reader.uint("ID")?,
                b"Key" => self.key = reader.text("Key", TEXT_BYTES_MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn request(self, command: &str) -> Request {
        let key = |op, key| Request::Key { op, key };
        let Query { name, payload, tags, .. } = self.query.clone();
        match command {
            "handshake" => Request::Handshake { version: self.version },
            "auth" => Request::Auth { key: self.auth_key },
            "event" => Request::Event { name, payload, coalesce: self.coalesce },
            "force-leave" => Request::ForceLeave { node: self.node, prune: self.prune },
            "join" => Request::Join { existing: self.existing, replay: self.replay },
            "members-filtered" => Request::Members { name, status: self.status, tags },
            "tags" => Request::Tags { set: tags, delete: self.delete },
            "stream" => Request::Stream { filter: self.kind },
            "monitor" => Request::Monitor { level: self.level },
            "stop" => Request::Stop { seq: self.stop },
            "query" => Request::Query(self.query),
            "respond" => Request::Respond { id: self.id, payload },
            "install-key" => key(KeyVerb::Install, self.key),
            "use-key" => key(KeyVerb::Use, self.key),
            "remove-key" => key(KeyVerb::Remove, self.key),
            _ => Request::Coordinate { node: self.node },
        }
    }
}

fn texts(field: &'static str, reader: &mut Reader<'_>) -> Result<Vec<String>, WireError> {
    let count = reader.array()?;
    if count > ITEMS_MAX {
        return Err(WireError::Limit { what: field, limit: ITEMS_MAX });
    }
    (0..count).map(|_| reader.text(field, TEXT_BYTES_MAX)).collect()
}

fn tags(reader: &mut Reader<'_>) -> Result<Tags, WireError> {
    let count = reader.map()?;
    if count > FILTERS_MAX {
        return Err(WireError::Limit { what: "Tags", limit: FILTERS_MAX });
    }
    (0..count).map(|_| Ok((reader.text("tag", TEXT_BYTES_MAX)?, reader.text("tag", TEXT_BYTES_MAX)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_gossip::wire::Writer;

    fn header(writer: &mut Writer, command: &str, seq: u64) {
        writer.map(2);
        writer.raw_field("Command", command.as_bytes());
        writer.uint_field("Seq", seq);
    }

    /// Shows a request whole, with an unknown field, and that each shorter piece of it asks for more.
    #[test]
    fn pieces_ask_for_more() {
        let mut writer = Writer::new();
        header(&mut writer, "query", 7);
        writer.map(5);
        writer.text("FilterNodes");
        writer.array(2);
        writer.text("a");
        writer.text("b");
        writer.uint_field("Timeout", 5_000_000_000);
        writer.raw_field("Name", b"load");
        writer.raw_field("Payload", b"\xff");
        writer.bool_field("Future", true);
        let bytes = writer.finish();
        let (head, request) = read(&mut Reader::new(&bytes)).expect("whole");
        assert_eq!(head, Header { command: "query".to_owned(), seq: 7 });
        let query = Query {
            nodes: vec!["a".to_owned(), "b".to_owned()],
            timeout_ns: 5_000_000_000,
            name: "load".to_owned(),
            payload: vec![0xff],
            ..Query::default()
        };
        assert_eq!(request, Request::Query(query));
        for length in 0..bytes.len() {
            assert_eq!(read(&mut Reader::new(&bytes[..length])), Err(WireError::Truncated), "{length}");
        }
    }

    /// Shows that lists and texts beyond their limits are refused, not kept.
    #[test]
    fn limits() {
        let mut writer = Writer::new();
        header(&mut writer, "join", 1);
        writer.map(1);
        writer.text("Existing");
        writer.array(ITEMS_MAX + 1);
        (0..=ITEMS_MAX).for_each(|_| writer.text("x"));
        let bytes = writer.finish();
        assert!(matches!(read(&mut Reader::new(&bytes)), Err(WireError::Limit { what: "Existing", .. })));
        let mut writer = Writer::new();
        header(&mut writer, "nonsense", 3);
        let bytes = writer.finish();
        assert_eq!(read(&mut Reader::new(&bytes)).map(|(_, request)| request), Ok(Request::Unknown));
    }
}
