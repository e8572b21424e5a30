//! MessagePack as HashiCorp's codec writes it: the old format, where text and bytes are both "raw"
//! (markers `a0`–`bf`, `da`, `db`) and there is neither `str8` nor `bin`. The reader takes both formats.
//!
//! Own code rather than a crate: the old raw markers and the per-field limits are most of it.

use std::net::IpAddr;

use super::WireError;
use crate::limits::{FIELDS_MAX, SKIPPED_VALUES_MAX};

/// Writes values one after the other into a byte vector.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer that starts with a message's type byte.
    pub fn message(kind: u8) -> Self {
        const USUAL_BYTES: usize = 64;
        let mut writer = Self::with_capacity(USUAL_BYTES);
        writer.bytes.push(kind);
        writer
    }

    /// An empty writer that takes so many bytes before it grows.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn plain(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The header of a map with `len` pairs.
    pub fn map(&mut self, len: usize) {
        self.container(len, 0x80, 0xde);
    }

    /// The header of an array with `len` values.
    pub fn array(&mut self, len: usize) {
        self.container(len, 0x90, 0xdc);
    }

    fn container(&mut self, len: usize, fix: u8, wide: u8) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match len {
            0..=15 => self.bytes.push(fix | len as u8),
            16..=0xffff => {
                self.bytes.push(wide);
                self.plain(&(len as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(wide + 1);
                self.plain(&len.to_be_bytes());
            }
        }
    }

    /// Text or bytes, as old raw.
    pub fn raw(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match len {
            0..=31 => self.bytes.push(0xa0 | len as u8),
            32..=0xffff => {
                self.bytes.push(0xda);
                self.plain(&(len as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(0xdb);
                self.plain(&len.to_be_bytes());
            }
        }
        self.plain(bytes);
    }

    /// Bytes, as the new format has them; Serf's RPC writes so, its gossip never does.
    pub fn bin(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match len {
            0..=0xff => self.plain(&[0xc4, len as u8]),
            0x100..=0xffff => {
                self.bytes.push(0xc5);
                self.plain(&(len as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(0xc6);
                self.plain(&len.to_be_bytes());
            }
        }
        self.plain(bytes);
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    /// An unsigned number, in the shortest form.
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            0x80..=0xff => {
                self.bytes.push(0xcc);
                self.bytes.push(value as u8);
            }
            0x100..=0xffff => {
                self.bytes.push(0xcd);
                self.plain(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.bytes.push(0xce);
                self.plain(&(value as u32).to_be_bytes());
            }
            _ => {
                self.bytes.push(0xcf);
                self.plain(&value.to_be_bytes());
            }
        }
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    /// No value.
    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    /// A double.
    pub fn float(&mut self, value: f64) {
        self.bytes.push(0xcb);
        self.plain(&value.to_be_bytes());
    }

    /// A field of a map: name, then unsigned number.
    pub fn uint_field(&mut self, name: &str, value: u64) {
        self.text(name);
        self.uint(value);
    }

    /// A field of a map: name, then text or bytes.
    pub fn raw_field(&mut self, name: &str, value: &[u8]) {
        self.text(name);
        self.raw(value);
    }

    /// A field of a map: name, then the 4 or 16 bytes of an address.
    pub fn address_field(&mut self, name: &str, ip: IpAddr) {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.raw_field(name, &ip.octets()),
            IpAddr::V6(ip) => self.raw_field(name, &ip.octets()),
        }
    }

    /// A field of a map: name, then truth value.
    pub fn bool_field(&mut self, name: &str, value: bool) {
        self.text(name);
        self.bool(value);
    }
}

/// Reads values from borrowed bytes. An error leaves the position undefined.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next `len` bytes as they are.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let slice = self.rest().get(..len).ok_or(WireError::Truncated)?;
        self.at += len;
        Ok(slice)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian unsigned number of `width` bytes (1 to 8).
    fn number(&mut self, width: usize) -> Result<u64, WireError> {
        Ok(self.take(width)?.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn length(&mut self, width: usize) -> Result<usize, WireError> {
        usize::try_from(self.number(width)?).map_err(|_| WireError::Range { field: "length" })
    }

    /// Whether the next value is nil; if so it is read.
    pub fn nil(&mut self) -> bool {
        let nil = self.rest().first() == Some(&0xc0);
        if nil {
            self.at += 1;
        }
        nil
    }

    /// Number of pairs of the map that starts here; nil is an empty map. Never more than the rest can hold.
    pub fn map(&mut self) -> Result<usize, WireError> {
        self.map_of(usize::MAX)
    }

    /// Number of fields of the message that starts here. A message that comes in pieces is read anew with each: what
    /// has more than [`FIELDS_MAX`] is refused at once.
    pub fn field_count(&mut self) -> Result<usize, WireError> {
        self.map_of(FIELDS_MAX)
    }

    fn map_of(&mut self, limit: usize) -> Result<usize, WireError> {
        let len = match self.byte()? {
            marker @ 0x80..=0x8f => usize::from(marker & 0x0f),
            0xde => self.length(2)?,
            0xdf => self.length(4)?,
            0xc0 => 0,
            marker => {
                return Err(WireError::Kind { expected: "map", marker });
            }
        };
        match len {
            _ if len > limit => Err(WireError::Limit { what: "fields", limit }),
            _ if len > self.rest().len() / 2 => Err(WireError::Truncated),
            _ => Ok(len),
        }
    }

    /// Number of values of the array that starts here; nil is an empty array. Never more than the rest can hold.
    pub fn array(&mut self) -> Result<usize, WireError> {
        let len = match self.byte()? {
            marker @ 0x90..=0x9f => usize::from(marker & 0x0f),
            0xdc => self.length(2)?,
            0xdd => self.length(4)?,
            0xc0 => 0,
            marker => {
                return Err(WireError::Kind { expected: "array", marker });
            }
        };
        if len > self.rest().len() { Err(WireError::Truncated) } else { Ok(len) }
    }

    /// Text or bytes of any marker; nil is empty.
    pub fn raw(&mut self) -> Result<&'a [u8], WireError> {
        let len = match self.byte()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 | 0xc4 => self.length(1)?,
            0xda | 0xc5 => self.length(2)?,
            0xdb | 0xc6 => self.length(4)?,
            0xc0 => 0,
            marker => {
                return Err(WireError::Kind { expected: "raw", marker });
            }
        };
        self.take(len)
    }

    /// Bytes of at most `limit`, kept.
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<Vec<u8>, WireError> {
        self.slice(field, limit).map(<[u8]>::to_vec)
    }

    /// Bytes of at most `limit`, where they are.
    pub fn slice(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], WireError> {
        let raw = self.raw()?;
        if raw.len() > limit { Err(WireError::Limit { what: field, limit }) } else { Ok(raw) }
    }

    /// UTF-8 text of at most `limit` bytes, where it is.
    pub fn str(&mut self, field: &'static str, limit: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.slice(field, limit)?).map_err(|_| WireError::Text { field })
    }

    /// UTF-8 text of at most `limit` bytes, kept.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<String, WireError> {
        self.str(field, limit).map(str::to_owned)
    }

    /// A whole number that is not negative. nil is 0.
    pub fn uint(&mut self, field: &'static str) -> Result<u64, WireError> {
        let value = match self.byte()? {
            marker @ 0x00..=0x7f => return Ok(u64::from(marker)),
            0xcc => return self.number(1),
            0xcd => return self.number(2),
            0xce => return self.number(4),
            0xcf => return self.number(8),
            0xc0 => return Ok(0),
            marker @ 0xe0..=0xff => i64::from(marker as i8),
            0xd0 => i64::from(self.number(1)? as u8 as i8),
            0xd1 => i64::from(self.number(2)? as u16 as i16),
            0xd2 => i64::from(self.number(4)? as u32 as i32),
            0xd3 => self.number(8)? as i64,
            marker => {
                return Err(WireError::Kind { expected: "number", marker });
            }
        };
        u64::try_from(value).map_err(|_| WireError::Range { field })
    }

    /// A whole number that fits 32 bits.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        u32::try_from(self.uint(field)?).map_err(|_| WireError::Range { field })
    }

    /// A whole number that fits 16 bits.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        u16::try_from(self.uint(field)?).map_err(|_| WireError::Range { field })
    }

    /// A whole number that fits 8 bits.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        u8::try_from(self.uint(field)?).map_err(|_| WireError::Range { field })
    }

    /// A truth value. nil is false.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0xc2 | 0xc0 => Ok(false),
            0xc3 => Ok(true),
            marker => Err(WireError::Kind { expected: "bool", marker }),
        }
    }

    /// A number with a fraction; whole numbers are taken too.
    pub fn float(&mut self) -> Result<f64, WireError> {
        match self.rest().first() {
            Some(0xcb) => {
                self.at += 1;
                Ok(f64::from_bits(self.number(8)?))
            }
            Some(0xca) => {
                self.at += 1;
                Ok(f64::from(f32::from_bits(self.number(4)? as u32)))
            }
            _ => Ok(self.uint("float")? as f64),
        }
    }

    /// Reads over one value of any kind, of at most [`SKIPPED_VALUES_MAX`] values in all.
    pub fn skip(&mut self) -> Result<(), WireError> {
        let (mut left, mut passed): (usize, usize) = (1, 0);
        while left > 0 {
            left -= 1;
            passed += 1;
            let width = match self.byte()? {
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
                marker @ 0x80..=0x8f => {
                    left += 2 * usize::from(marker & 0x0f);
                    0
                }
                marker @ 0x90..=0x9f => {
                    left += usize::from(marker & 0x0f);
                    0
                }
                marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
                0xcc | 0xd0 => 1,
                0xcd | 0xd1 | 0xd4 => 2,
                0xd5 => 3,
                0xca | 0xce | 0xd2 => 4,
                0xd6 => 5,
                0xcb | 0xcf | 0xd3 => 8,
                0xd7 => 9,
                0xd8 => 17,
                0xd9 | 0xc4 => self.length(1)?,
                0xda | 0xc5 => self.length(2)?,
                0xdb | 0xc6 => self.length(4)?,
                0xc7 => self.length(1)? + 1,
                0xc8 => self.length(2)? + 1,
                0xc9 => self.length(4)?.saturating_add(1),
                0xdc => {
                    left += self.length(2)?;
                    0
                }
                0xdd => {
                    left += self.length(4)?;
                    0
                }
                0xde => {
                    left += 2 * self.length(2)?;
                    0
                }
                0xdf => {
                    left += 2 * self.length(4)?;
                    0
                }
                marker => {
                    return Err(WireError::Kind { expected: "value", marker });
                }
            };
            if left.saturating_add(passed) > SKIPPED_VALUES_MAX {
                return Err(WireError::Limit { what: "values of an unknown field", limit: SKIPPED_VALUES_MAX });
            }
            self.take(width)?;
            if left > self.rest().len() {
                return Err(WireError::Truncated);
            }
        }
        Ok(())
    }

    /// Calls `field` for each pair of the map that starts here; it answers whether it has read the value.
    /// Unknown fields are read over, so that newer peers may add some.
    pub fn fields(
        &mut self,
        mut field: impl FnMut(&[u8], &mut Self) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        for _ in 0..self.field_count()? {
            let name = self.raw()?;
            if !field(name, self)? {
                self.skip()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that each value comes back as written, and in the old format's markers.
    #[test]
    fn values_round_trip() {
        for value in [0, 1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX] {
            let mut writer = Writer::new();
            writer.uint(value);
            assert_eq!(Reader::new(&writer.finish()).uint("n"), Ok(value));
        }
        for len in [0, 31, 32, 255, 256, 65_535, 65_536] {
            let mut writer = Writer::new();
            writer.raw(&vec![7; len]);
            let bytes = writer.finish();
            assert!(matches!(bytes[0], 0xa0..=0xbf | 0xda | 0xdb), "old raw only, got {:#x}", bytes[0]);
            assert_eq!(Reader::new(&bytes).raw().map(<[u8]>::len), Ok(len));
        }
        let mut writer = Writer::new();
        writer.float(-1.5);
        assert_eq!(Reader::new(&writer.finish()).float(), Ok(-1.5));
    }

    /// Shows that a header that promises more than the input holds is refused before anything is allocated.
    #[test]
    fn a_lying_length_is_truncated() {
        for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff]] {
            assert!(matches!(Reader::new(bytes).skip(), Err(WireError::Limit { .. })));
        }
        for bytes in [&[0xdd, 0, 0, 1, 0, 1][..], &[0xdf, 0, 0, 1, 0, 1], &[0xdb, 0xff, 0, 0, 0]] {
            assert_eq!(Reader::new(bytes).skip(), Err(WireError::Truncated));
        }
        assert_eq!(Reader::new(&[0xdd, 0, 0, 1, 0, 1]).array(), Err(WireError::Truncated));
        assert_eq!(Reader::new(&[0xdf, 0, 0, 1, 0, 1]).map(), Err(WireError::Truncated));
    }

    /// Shows that negative numbers do not become huge ones.
    #[test]
    fn negative_is_out_of_range() {
        assert_eq!(Reader::new(&[0xff]).uint("n"), Err(WireError::Range { field: "n" }));
        assert_eq!(Reader::new(&[0xd1, 0xff, 0x00]).uint("n"), Err(WireError::Range { field: "n" }));
        assert_eq!(Reader::new(&[0xd0, 0x05]).uint("n"), Ok(5));
    }

    /// Shows that unknown fields of any kind are read over.
    #[test]
    fn unknown_fields_are_skipped() {
        let mut writer = Writer::new();
        writer.map(3);
        writer.text("New");
        writer.map(1);
        writer.text("deep");
        writer.array(2);
        writer.float(1.0);
        writer.nil();
        writer.uint_field("Known", 9);
        writer.bool_field("Other", true);
        let bytes = writer.finish();
        let mut known = 0;
        Reader::new(&bytes)
            .fields(|name, reader| {
                if name == b"Known" {
                    known = reader.uint("Known")?;
                    return Ok(true);
                }
                Ok(false)
            })
            .unwrap();
        assert_eq!(known, 9);
    }
}
