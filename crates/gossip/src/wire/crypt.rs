//! Encryption: AES-GCM with 128, 192 or 256-bit keys; a version byte, a 12-byte nonce, the sealed message.
//! Version 0 pads the message as PKCS7 does, version 1 does not.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::WireError;
use crate::limits::KEYS_MAX;

/// Bytes of the nonce.
pub(super) const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;
const VERSION_PADDED: u8 = 0;
const VERSION_PLAIN: u8 = 1;

/// Why a key ring was not changed. State is unchanged; the fault is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The key is not 16, 24 or 32 bytes long.
    #[error("key size must be 16, 24 or 32 bytes")]
    Length,
    /// The text is not base64.
    #[error("key is not base64")]
    Base64,
    /// The key to use is not in the ring.
    #[error("requested key is not in the keyring")]
    Missing,
    /// The primary key cannot be removed.
    #[error("removing the primary key is not allowed")]
    Primary,
    /// The ring holds as many keys as it may.
    #[error("keyring is full with {KEYS_MAX} keys")]
    Full,
}

/// A gossip key: 16, 24 or 32 secret bytes, written as base64. Its debug form does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

impl Key {
    /// A key of 16, 24 or 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyringError> {
        matches!(bytes.len(), 16 | 24 | 32).then(|| Self(bytes.to_vec())).ok_or(KeyringError::Length)
    }

    /// A key from its base64 form, as `serf keygen` prints it.
    pub fn from_base64(text: &str) -> Result<Self, KeyringError> {
        Self::new(&BASE64_STANDARD.decode(text.trim()).map_err(|_| KeyringError::Base64)?)
    }

    /// The base64 form.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.0)
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn seal(&self, nonce: &[u8; NONCE_BYTES], plain: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: plain, aad };
        match self.0.len() {
            16 => Aes128Gcm::new_from_slice(&self.0).ok()?.encrypt(nonce.into(), payload).ok(),
            24 => AesGcm::<Aes192, U12>::new_from_slice(&self.0).ok()?.encrypt(nonce.into(), payload).ok(),
            _ => Aes256Gcm::new_from_slice(&self.0).ok()?.encrypt(nonce.into(), payload).ok(),
        }
    }

    fn open(&self, nonce: &[u8; NONCE_BYTES], sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload { msg: sealed, aad };
        match self.0.len() {
            16 => Aes128Gcm::new_from_slice(&self.0).ok()?.decrypt(nonce.into(), payload).ok(),
            24 => AesGcm::<Aes192, U12>::new_from_slice(&self.0).ok()?.decrypt(nonce.into(), payload).ok(),
            _ => Aes256Gcm::new_from_slice(&self.0).ok()?.decrypt(nonce.into(), payload).ok(),
        }
    }
}

/// The keys that open messages, the first of which (the primary) seals them. Never empty, no key twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// A ring with one key.
    pub fn new(primary: Key) -> Self {
        Self { keys: vec![primary] }
    }

    /// The keys, primary first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key that seals.
    pub fn primary(&self) -> &Key {
        &self.keys[0]
    }

    /// Adds a key for opening. A key that is there already is no error.
    pub fn install(&mut self, key: Key) -> Result<(), KeyringError> {
        if self.keys.contains(&key) {
            return Ok(());
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyringError::Full);
        }
        self.keys.push(key);
        Ok(())
    }

    /// Makes an installed key the primary.
    pub fn use_key(&mut self, key: &Key) -> Result<(), KeyringError> {
        let at = self.keys.iter().position(|installed| installed == key).ok_or(KeyringError::Missing)?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(())
    }

    /// Removes a key that is not the primary. A key that is not there is no error.
    pub fn remove(&mut self, key: &Key) -> Result<(), KeyringError> {
        if self.primary() == key {
            return Err(KeyringError::Primary);
        }
        self.keys.retain(|installed| installed != key);
        Ok(())
    }

    /// Seals with the primary key; `aad` is authenticated with it.
    pub(super) fn seal(
        &self,
        version: EncryptionVersion,
        nonce: [u8; NONCE_BYTES],
        plain: &[u8],
        aad: &[u8],
    ) -> Vec<u8> {
        let padded;
        let (byte, message) = match version {
            EncryptionVersion::Padded => {
                let more = BLOCK_BYTES - plain.len() % BLOCK_BYTES;
                padded = [plain, &vec![more as u8; more]].concat();
                (VERSION_PADDED, &padded[..])
            }
            EncryptionVersion::Plain => (VERSION_PLAIN, plain),
        };
        let mut bytes = vec![byte];
        bytes.extend_from_slice(&nonce);
        // AES-GCM fails only beyond 64 GiB; every message here is bounded by `STREAM_BYTES_MAX`.
        bytes.extend(self.primary().seal(&nonce, message, aad).unwrap_or_default());
        bytes
    }

    /// Opens with whichever key fits.
    pub(super) fn open(&self, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, WireError> {
        let (&version, rest) = sealed.split_first().ok_or(WireError::Truncated)?;
        if version > VERSION_PLAIN || rest.len() < NONCE_BYTES + TAG_BYTES {
            return Err(WireError::Decrypt);
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(WireError::Truncated)?;
        let mut plain = self.keys.iter().find_map(|key| key.open(nonce, body, aad)).ok_or(WireError::Decrypt)?;
        if version == VERSION_PADDED {
            let padding = usize::from(*plain.last().ok_or(WireError::Decrypt)?);
            let length = plain.len().checked_sub(padding).ok_or(WireError::Decrypt)?;
            plain.truncate(length);
        }
        Ok(plain)
    }
}

/// How messages are sealed. Both are always opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncryptionVersion {
    /// Version 0, with PKCS7 padding: for peers that speak memberlist protocol 1.
    Padded,
    /// Version 1, without padding.
    #[default]
    Plain,
}

impl EncryptionVersion {
    /// Most bytes that sealing adds. Source: memberlist `encryptOverhead`.
    pub(super) fn overhead(self) -> usize {
        let padding = if self == Self::Padded { BLOCK_BYTES } else { 0 };
        1 + NONCE_BYTES + TAG_BYTES + padding
    }

    /// Bytes of a sealed message of `len` plain bytes.
    pub(super) fn sealed_len(self, len: usize) -> usize {
        let padding = if self == Self::Padded { BLOCK_BYTES - len % BLOCK_BYTES } else { 0 };
        1 + NONCE_BYTES + len + padding + TAG_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that both versions and all key sizes open again, with any key of the ring, and only with the
    /// same authenticated data.
    #[test]
    fn sealed_messages_open() {
        for size in [16, 24, 32] {
            let old = Keyring::new(Key::new(&vec![3; size]).unwrap());
            let mut ring = Keyring::new(Key::new(&[1; 16]).unwrap());
            ring.install(old.primary().clone()).unwrap();
            for version in [EncryptionVersion::Padded, EncryptionVersion::Plain] {
                for length in [0, 1, 15, 16, 17, 1000] {
                    let plain = vec![7; length];
                    let sealed = old.seal(version, [9; 12], &plain, b"label");
                    assert_eq!(sealed.len(), version.sealed_len(length));
                    assert!(sealed.len() <= length + version.overhead());
                    assert_eq!(ring.open(&sealed, b"label"), Ok(plain.clone()));
                    assert_eq!(ring.open(&sealed, b"other"), Err(WireError::Decrypt));
                }
            }
        }
    }

    /// Shows the rules of the ring: no key twice, the primary stays, only installed keys are used.
    #[test]
    fn ring_rules() {
        let [a, b, c] = [1u8, 2, 3].map(|n| Key::new(&[n; 32]).unwrap());
        let mut ring = Keyring::new(a.clone());
        ring.install(b.clone()).unwrap();
        ring.install(b.clone()).unwrap();
        assert_eq!(ring.keys().len(), 2);
        assert_eq!(ring.use_key(&c), Err(KeyringError::Missing));
        ring.use_key(&b).unwrap();
        assert_eq!(ring.remove(&b), Err(KeyringError::Primary));
        ring.remove(&a).unwrap();
        ring.remove(&a).unwrap();
        assert_eq!(ring.keys(), &[b]);
        assert_eq!(Key::new(&[0; 20]), Err(KeyringError::Length));
        assert_eq!(Key::from_base64("!"), Err(KeyringError::Base64));
        assert_eq!(Key::from_base64(&c.to_base64()), Ok(c));
    }

    /// Shows that damaged padding is refused: with a known key anyone can send any last byte.
    #[test]
    fn bad_padding_is_refused() {
        let ring = Keyring::new(Key::new(&[1; 16]).unwrap());
        let mut sealed = vec![VERSION_PADDED];
        sealed.extend([5; 12]);
        sealed.extend(ring.primary().seal(&[5; 12], &[200; 16], b"").unwrap());
        assert_eq!(ring.open(&sealed, b""), Err(WireError::Decrypt));
        let mut empty = vec![VERSION_PADDED];
        empty.extend([5; 12]);
        empty.extend(ring.primary().seal(&[5; 12], &[], b"").unwrap());
        assert_eq!(ring.open(&empty, b""), Err(WireError::Decrypt));
    }
}
