//! Content hashes.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// The first 16 bytes of a BLAKE3 hash, as 32 hex digits in text.
///
/// Long enough that two versions never collide by chance, short enough to read aloud in part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Hashes parts in order; each part is length-prefixed, so `["ab","c"]` differs from `["a","bc"]`.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Digest(out)
    }

    /// Hashes a value by its JSON form.
    pub fn of_json(value: &impl Serialize) -> Digest {
        let json = serde_json::to_vec(value).expect("model types always serialise");
        Digest::of([json.as_slice()])
    }

    /// The first eight hex digits: enough for people.
    pub fn short(&self) -> String {
        let [a, b, c, d, ..] = self.0;
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }

    /// A number drawn from the digest, for jitter that is the same on every run.
    pub fn number(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("8 of 16 bytes"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut out = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(de::Error::custom("a digest has 32 hex digits"));
        }
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16)
                .map_err(|_| de::Error::custom("a digest has 32 hex digits"))?;
        }
        Ok(Digest(out))
    }
}
