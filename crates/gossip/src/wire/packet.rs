//! Datagrams: the layers around messages, put on and taken off.

use super::crypt::NONCE_BYTES;
use super::label::{label_header, label_overhead, strip_label};
use super::{EncryptionVersion, Keyring, WireError, compress, decompress, split_compound, swim_type};
use crate::limits::{PACKET_BYTES_MAX, PACKET_DEPTH_MAX, PACKET_PARTS_MAX, PACKET_PLAIN_BYTES_MAX};
use crate::rng::Rng;

/// Bytes of the checksum layer: type byte and CRC-32.
const CRC_BYTES: usize = 5;
/// Shorter messages only grow: the map around the compressed bytes takes 15 bytes, and codes start at 9 bits.
const COMPRESS_FROM_BYTES: usize = 128;
/// Bytes of a compound's type and count.
const COMPOUND_BYTES: usize = 2;
/// Bytes that a compound adds for each message. Source: memberlist `compoundOverhead`.
pub const COMPOUND_PART_BYTES: usize = 2;

/// One message of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its type byte; see [`swim_type`].
    pub kind: u8,
    /// What follows the type byte.
    pub body: Vec<u8>,
}

/// The messages of one datagram, one after the other in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Parts {
    /// Each message: its type byte, and what follows it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| {
            let (kind, body) = self.bytes[start..*end].split_first()?;
            Some((*kind, body))
        })
    }
}

/// The layers that a cluster agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Name of the cluster on the wire, at most 255 bytes; empty is none. Default: none.
    pub label: String,
    /// Keys; `None` sends and takes plain messages.
    pub keyring: Option<Keyring>,
    /// How messages are sealed. Default: version 1.
    pub encryption: EncryptionVersion,
    /// Whether messages are compressed where that makes them smaller. Default: yes, as Serf.
    pub compress: bool,
    /// Whether plain messages are refused when there are keys. Default: yes; no only while a cluster
    /// moves to encryption.
    pub verify_incoming: bool,
    /// Whether messages are sealed when there are keys. Default: yes; no only while a cluster moves.
    pub verify_outgoing: bool,
}

impl Default for Envelope {
    fn default() -> Self {
        Self {
            label: String::new(),
            keyring: None,
            encryption: EncryptionVersion::default(),
            compress: true,
            verify_incoming: true,
            verify_outgoing: true,
        }
    }
}

impl Envelope {
    /// Bytes that messages in one compound may take together, headers of each included.
    pub fn room(&self) -> usize {
        let sealed = if self.keyring.is_some() { self.encryption.overhead() } else { 0 };
        PACKET_BYTES_MAX - COMPOUND_BYTES - CRC_BYTES - sealed - label_overhead(&self.label)
    }

    pub(super) fn sealing_ring(&self) -> Option<&Keyring> {
        self.keyring.as_ref().filter(|_| self.verify_outgoing)
    }

    /// A datagram around `message` (type byte included).
    ///
    /// `checksum`: whether the receiver understands checksums (memberlist protocol 5 and later).
    pub fn seal_packet(&self, message: Vec<u8>, checksum: bool, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = message;
        if self.compress && bytes.len() >= COMPRESS_FROM_BYTES {
            let packed = compress(&bytes);
            if packed.len() < bytes.len() {
                bytes = packed;
            }
        }
        if checksum {
            let crc = crc32fast::hash(&bytes).to_be_bytes();
            bytes = [&[swim_type::CRC], &crc[..], &bytes].concat();
        }
        if let Some(ring) = self.sealing_ring() {
            bytes = ring.seal(self.encryption, nonce(rng), &bytes, self.label.as_bytes());
        }
        if self.label.is_empty() {
            return bytes;
        }
        let mut sealed = label_header(&self.label);
        sealed.append(&mut bytes);
        sealed
    }

    /// The messages of a received datagram, in order.
    ///
    /// Errors: any of [`WireError`]; then nothing of the datagram is to be used.
    pub fn open_packet(&self, bytes: &[u8]) -> Result<Vec<Part>, WireError> {
        let parts = self.open_parts(bytes)?;
        Ok(parts.iter().map(|(kind, body)| Part { kind, body: body.to_vec() }).collect())
    }

    /// As [`Envelope::open_packet`].
    pub(crate) fn open_parts(&self, bytes: &[u8]) -> Result<Parts, WireError> {
        let sealed = strip_label(bytes, &self.label)?;
        let opened;
        let mut plain = sealed;
        if let Some(ring) = &self.keyring {
            match ring.open(sealed, self.label.as_bytes()) {
                Ok(bytes) => {
                    opened = bytes;
                    plain = &opened;
                }
                Err(error) if self.verify_incoming => return Err(error),
                Err(_) => {}
            }
        }
        if let Some((head, rest)) = plain.split_first_chunk::<CRC_BYTES>()
            && head[0] == swim_type::CRC
        {
            if crc32fast::hash(rest).to_be_bytes() != head[1..] {
                return Err(WireError::Checksum);
            }
            plain = rest;
        }
        let parts = Parts { bytes: Vec::with_capacity(plain.len()), ends: Vec::new() };
        let mut unfold = Unfold { parts, bytes_left: PACKET_PLAIN_BYTES_MAX };
        unfold.message(plain, 0)?;
        Ok(unfold.parts)
    }
}

pub(super) fn nonce(rng: &mut Rng) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill(&mut nonce);
    nonce
}

/// Unfolding of nested layers, with what is left of its limits.
struct Unfold {
    parts: Parts,
    bytes_left: usize,
}

impl Unfold {
    fn message(&mut self, message: &[u8], depth: usize) -> Result<(), WireError> {
        if depth > PACKET_DEPTH_MAX {
            return Err(WireError::Limit { what: "nesting", limit: PACKET_DEPTH_MAX });
        }
        let (&kind, body) = message.split_first().ok_or(WireError::Truncated)?;
        match kind {
            swim_type::COMPOUND => split_compound(body)?.into_iter().try_for_each(|part| self.message(part, depth + 1)),
            swim_type::COMPRESS => {
                let (plain, _) = decompress(body, self.bytes_left)?;
                self.bytes_left -= plain.len();
                self.message(&plain, depth + 1)
            }
            _ if self.parts.ends.len() >= PACKET_PARTS_MAX => {
                Err(WireError::Limit { what: "messages in a packet", limit: PACKET_PARTS_MAX })
            }
            _ => {
                self.parts.bytes.extend_from_slice(message);
                self.parts.ends.push(self.parts.bytes.len());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Key, join_compound};

    fn envelopes() -> Vec<Envelope> {
        let ring = Keyring::new(Key::new(&[4; 32]).unwrap());
        let mut envelopes = vec![Envelope::default(), Envelope { compress: false, ..Envelope::default() }];
        for label in ["", "blue"] {
            for encryption in [EncryptionVersion::Padded, EncryptionVersion::Plain] {
                envelopes.push(Envelope {
                    label: label.to_owned(),
                    keyring: Some(ring.clone()),
                    encryption,
                    ..Envelope::default()
                });
            }
        }
        envelopes
    }

    /// Shows that every combination of layers gives the messages back, and that another cluster's does not.
    #[test]
    fn sealed_packets_open() {
        let mut rng = Rng::new([1; 32]);
        let messages = vec![vec![3, 1, 2], vec![8; 200]];
        for envelope in envelopes() {
            for checksum in [false, true] {
                let bytes = envelope.seal_packet(join_compound(&messages), checksum, &mut rng);
                let parts = envelope.open_packet(&bytes).unwrap();
                let found: Vec<Vec<u8>> = parts.iter().map(|part| [&[part.kind], &part.body[..]].concat()).collect();
                assert_eq!(found, messages);
                let other = Envelope { label: "red".to_owned(), ..envelope.clone() };
                assert_eq!(other.open_packet(&bytes), Err(WireError::Label));
            }
        }
    }

    /// Shows that a plain message is refused by a cluster with keys, unless it is moving to encryption.
    #[test]
    fn plain_is_refused_when_there_are_keys() {
        let mut rng = Rng::new([1; 32]);
        let bytes = Envelope::default().seal_packet(vec![3, 1, 2, 0xc0, 5], false, &mut rng);
        let strict = Envelope { keyring: Some(Keyring::new(Key::new(&[4; 16]).unwrap())), ..Envelope::default() };
        assert_eq!(strict.open_packet(&bytes), Err(WireError::Decrypt));
        let moving = Envelope { verify_incoming: false, ..strict };
        assert_eq!(moving.open_packet(&bytes).map(|parts| parts.len()), Ok(1));
    }

    /// Shows that a flipped bit is noticed by the checksum.
    #[test]
    fn damage_is_noticed() {
        let mut bytes = Envelope::default().seal_packet(vec![3, 1, 2, 9], true, &mut Rng::new([1; 32]));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(Envelope::default().open_packet(&bytes), Err(WireError::Checksum));
    }

    /// Shows that nesting is bounded: a compound that holds itself many times over is refused.
    #[test]
    fn nesting_is_bounded() {
        let mut message = vec![3];
        for _ in 0..8 {
            message = join_compound(&[message]);
        }
        let limit = WireError::Limit { what: "nesting", limit: PACKET_DEPTH_MAX };
        assert_eq!(Envelope::default().open_packet(&message), Err(limit));
        let mut bomb = vec![vec![3]; 255];
        for _ in 0..2 {
            bomb = vec![join_compound(&bomb); 60];
        }
        let limit = WireError::Limit { what: "messages in a packet", limit: PACKET_PARTS_MAX };
        assert_eq!(Envelope::default().open_packet(&join_compound(&bomb)), Err(limit));
    }
}
