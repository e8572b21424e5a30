//! Streams (TCP): one message each way, put into its layers and read as its bytes come in.

use super::label::{label_header, strip_label};
use super::node::PushPullProgress;
use super::packet::nonce;
use super::{Ack, Envelope, ErrorReply, Exchange, Ping, Reader, WireError, compress, decompress, swim_type};
use crate::limits::{STREAM_BYTES_MAX, STREAM_PLAIN_BYTES_MAX};
use crate::rng::Rng;

/// Bytes in front of an encrypted message: type byte and length.
const SEALED_HEADER_BYTES: usize = 5;

/// A message that came over a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// A ping over TCP, where UDP failed.
    Ping(Ping),
    /// The answer to it.
    Ack(Ack),
    /// A whole state.
    PushPull(Exchange),
    /// A Serf message, type byte included.
    User(Vec<u8>),
    /// What went wrong at the other end.
    Error(ErrorReply),
}

/// What came of feeding bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Feed {
    /// More bytes are needed.
    More,
    /// The message is whole.
    Message(StreamMessage),
}

impl Envelope {
    /// A stream message around `message` (type byte included).
    pub fn seal_stream(&self, message: &[u8], rng: &mut Rng) -> Vec<u8> {
        // Always compressed when compression is on, even where that is larger, as memberlist does.
        let body = if self.compress { compress(message) } else { message.to_vec() };
        let mut bytes = label_header(&self.label);
        let Some(ring) = self.sealing_ring() else {
            bytes.extend(body);
            return bytes;
        };
        let length = u32::try_from(self.encryption.sealed_len(body.len())).unwrap_or(u32::MAX);
        let mut head = vec![swim_type::ENCRYPT];
        head.extend_from_slice(&length.to_be_bytes());
        let aad = [&head, self.label.as_bytes()].concat();
        bytes.extend(&head);
        bytes.extend(ring.seal(self.encryption, nonce(rng), &body, &aad));
        bytes
    }
}

/// A message that is being received. Holds what has come, never more than [`STREAM_BYTES_MAX`] and a chunk.
#[derive(Debug, Default)]
pub struct StreamBuffer {
    bytes: Vec<u8>,
    progress: PushPullProgress,
}

impl StreamBuffer {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next bytes. After an error or a message the stream has nothing more to say.
    pub fn feed(&mut self, chunk: &[u8], envelope: &Envelope) -> Result<Feed, WireError> {
        if self.bytes.len() + chunk.len() > STREAM_BYTES_MAX {
            return Err(WireError::Limit { what: "stream message", limit: STREAM_BYTES_MAX });
        }
        self.bytes.extend_from_slice(chunk);
        match read(&self.bytes, &mut self.progress, envelope) {
            Ok(message) => Ok(Feed::Message(message)),
            Err(WireError::Truncated) => Ok(Feed::More),
            Err(error) => Err(error),
        }
    }
}

/// Reads the message at the start of `bytes`; [`WireError::Truncated`] when more has to come.
fn read(bytes: &[u8], progress: &mut PushPullProgress, envelope: &Envelope) -> Result<StreamMessage, WireError> {
    if bytes.is_empty() {
        return Err(WireError::Truncated);
    }
    let inner = strip_label(bytes, &envelope.label)?;
    if inner.first() == Some(&swim_type::ENCRYPT) {
        let plain = open(inner, envelope)?;
        // What was sealed is whole: what is missing in it will not come.
        return message(&plain, &mut PushPullProgress::default()).map_err(never_comes);
    }
    if envelope.keyring.is_some() && envelope.verify_incoming {
        return Err(if inner.is_empty() { WireError::Truncated } else { WireError::Decrypt });
    }
    message(inner, progress)
}

fn open(inner: &[u8], envelope: &Envelope) -> Result<Vec<u8>, WireError> {
    let ring = envelope.keyring.as_ref().ok_or(WireError::NoKey)?;
    let (head, rest) = inner.split_first_chunk::<SEALED_HEADER_BYTES>().ok_or(WireError::Truncated)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > STREAM_BYTES_MAX {
        return Err(WireError::Limit { what: "stream message", limit: STREAM_BYTES_MAX });
    }
    let sealed = rest.get(..length).ok_or(WireError::Truncated)?;
    let aad = [&head[..], envelope.label.as_bytes()].concat();
    ring.open(sealed, &aad).map_err(|_| WireError::Decrypt)
}

fn never_comes(error: WireError) -> WireError {
    match error {
        WireError::Truncated => WireError::Limit { what: "announced length", limit: 0 },
        error => error,
    }
}

fn message(bytes: &[u8], progress: &mut PushPullProgress) -> Result<StreamMessage, WireError> {
    let (&kind, body) = bytes.split_first().ok_or(WireError::Truncated)?;
    if kind != swim_type::COMPRESS {
        return plain_message(kind, body, progress);
    }
    let (plain, _) = decompress(body, STREAM_PLAIN_BYTES_MAX)?;
    let (&kind, body) = plain.split_first().ok_or(WireError::Compression)?;
    plain_message(kind, body, &mut PushPullProgress::default()).map_err(never_comes)
}

fn plain_message(kind: u8, body: &[u8], progress: &mut PushPullProgress) -> Result<StreamMessage, WireError> {
    match kind {
        swim_type::PING => Ok(StreamMessage::Ping(Ping::decode(body)?.0)),
        swim_type::ACK => Ok(StreamMessage::Ack(Ack::decode(body)?.0)),
        swim_type::ERROR => Ok(StreamMessage::Error(ErrorReply::decode(body)?.0)),
        swim_type::PUSH_PULL => progress.advance(body).map(StreamMessage::PushPull),
        swim_type::USER => user(body).map(StreamMessage::User),
        kind => Err(WireError::UnknownType(kind)),
    }
}

/// A Serf message on a stream: a header with its length, then the message.
fn user(body: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut length = 0;
    let mut reader = Reader::new(body);
    for _ in 0..reader.field_count()? {
        match reader.raw()? {
            b"UserMsgLen" => length = reader.uint("UserMsgLen")?,
            _ => reader.skip()?,
        }
    }
    match usize::try_from(length) {
        Ok(length) if length <= STREAM_BYTES_MAX => Ok(reader.take(length)?.to_vec()),
        _ => Err(WireError::Limit { what: "user message", limit: STREAM_BYTES_MAX }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{EncryptionVersion, Key, Keyring, PushPull, Writer};

    /// Shows that a message in any layers, arriving byte by byte, is read once whole and not before.
    #[test]
    fn a_stream_arrives_byte_by_byte() {
        let mut rng = Rng::new([2; 32]);
        let ring = Keyring::new(Key::new(&[4; 32]).unwrap());
        for keyring in [None, Some(ring)] {
            for (compress, label) in [(false, ""), (true, ""), (true, "blue"), (false, "blue")] {
                for encryption in [EncryptionVersion::Padded, EncryptionVersion::Plain] {
                    let keyring = keyring.clone();
                    let envelope =
                        Envelope { label: label.to_owned(), keyring, encryption, compress, ..Envelope::default() };
                    let sent = PushPull { join: true, nodes: Vec::new(), user_state: vec![2, 0x80] };
                    let bytes = envelope.seal_stream(&sent.encode(), &mut rng);
                    let mut buffer = StreamBuffer::default();
                    for byte in &bytes[..bytes.len() - 1] {
                        assert_eq!(buffer.feed(&[*byte], &envelope), Ok(Feed::More));
                    }
                    let last = buffer.feed(&bytes[bytes.len() - 1..], &envelope);
                    let Ok(Feed::Message(StreamMessage::PushPull(found))) = last else { panic!("{last:?}") };
                    assert_eq!(found.to_push_pull(), sent);
                }
            }
        }
    }

    /// Shows that a plain stream is refused by a cluster with keys, and a sealed one by a cluster without.
    #[test]
    fn keys_are_required_on_both_sides() {
        let mut rng = Rng::new([2; 32]);
        let strict = Envelope { keyring: Some(Keyring::new(Key::new(&[4; 16]).unwrap())), ..Envelope::default() };
        let plain = Envelope::default();
        let ping = Ping { seq: 1, node: "b".into(), ..Ping::default() }.encode();
        let mut buffer = StreamBuffer::default();
        assert_eq!(buffer.feed(&plain.seal_stream(&ping, &mut rng), &strict), Err(WireError::Decrypt));
        let mut buffer = StreamBuffer::default();
        assert_eq!(buffer.feed(&strict.seal_stream(&ping, &mut rng), &plain), Err(WireError::NoKey));
    }

    /// Shows that a user message on a stream is read by its length.
    #[test]
    fn user_messages_have_a_length() {
        let mut writer = Writer::message(swim_type::USER);
        writer.map(1);
        writer.uint_field("UserMsgLen", 3);
        writer.plain(&[1, 2, 3]);
        let mut buffer = StreamBuffer::default();
        let fed = buffer.feed(&writer.finish(), &Envelope { compress: false, ..Envelope::default() });
        assert_eq!(fed, Ok(Feed::Message(StreamMessage::User(vec![1, 2, 3]))));
    }

    /// Shows that an announced length over the limit is refused before it is waited for.
    #[test]
    fn large_announcements_are_refused() {
        let strict = Envelope { keyring: Some(Keyring::new(Key::new(&[4; 16]).unwrap())), ..Envelope::default() };
        let fed = StreamBuffer::default().feed(&[swim_type::ENCRYPT, 0xff, 0, 0, 0], &strict);
        assert_eq!(fed, Err(WireError::Limit { what: "stream message", limit: STREAM_BYTES_MAX }));
    }

    /// Shows that a message that goes on without end is refused early, in whatever way it does: it is read anew with
    /// each piece, so that the work grew with the square of what came.
    #[test]
    fn endless_headers_are_refused() {
        let envelope = Envelope::default();
        let nested = [&[0x82, 0xa1, b'x'][..], &[0x91; 8192]].concat();
        let wide = [&[0x82, 0xa1, b'x', 0xdd, 0, 1, 0, 0][..], &[0xc0; 8192]].concat();
        let fields = [&[0xdf, 0, 1, 0, 0][..], &[0xa0, 0xc0].repeat(4096)].concat();
        for kind in [
            swim_type::PING,
            swim_type::ACK,
            swim_type::ERROR,
            swim_type::USER,
            swim_type::PUSH_PULL,
            swim_type::COMPRESS,
        ] {
            for body in [&nested, &wide, &fields] {
                let message = [&[kind], &body[..]].concat();
                let mut buffer = StreamBuffer::default();
                let fed = message.chunks(100).find_map(|chunk| buffer.feed(chunk, &envelope).err());
                assert!(matches!(fed, Some(WireError::Limit { .. })), "type {kind}: {fed:?}");
                assert!(buffer.len() <= 1200, "type {kind}: only after {} bytes", buffer.len());
            }
        }
    }
}
