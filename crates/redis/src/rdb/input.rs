//! Bytes of a snapshot, and the numbers and strings that all else is made of.

use std::io::Read;

use bytes::Bytes;

use super::crc64::crc64;
use super::error::Fault;
use super::lzf;

/// Bytes of one string: what Redis allows at most unless told otherwise.
pub(super) const STRING_BYTES_MAX: u64 = 512 << 20;

/// Bytes asked for at a time, so that a length alone costs no memory.
const STEP: usize = 1 << 20;

/// Bytes passed over at a time: few enough for the processor's nearest cache.
const SKIP_STEP: usize = 1 << 10;

/// Bytes with their checksum; they can be kept aside while they are read, and be read again.
#[derive(Debug)]
pub(super) struct Input<R> {
    source: R,
    /// Read before, to be read again.
    again: Bytes,
    kept: Option<Vec<u8>>,
    kept_max: usize,
    crc: u64,
    offset: u64,
}

/// A length, or the sign of a string that is a number or packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Plain(u64),
    Special(u8),
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, again: Bytes::new(), kept: None, kept_max: 0, crc: 0, offset: 0 }
    }

    /// Bytes read so far, those that were read twice counted once.
    pub(super) fn offset(&self) -> u64 {
        self.offset - self.again.len() as u64
    }

    /// The checksum of all bytes so far.
    pub(super) fn crc(&self) -> u64 {
        self.crc
    }

    /// Keeps what is read from here on, up to `max` bytes; the read that would make it more fails with [`Fault::Long`] and
    /// takes nothing.
    pub(super) fn keep(&mut self, max: usize) {
        self.kept = Some(Vec::new());
        self.kept_max = max;
    }

    /// What was kept; keeping ends.
    pub(super) fn kept(&mut self) -> Bytes {
        self.kept.take().unwrap_or_default().into()
    }

    /// Lets bytes that were kept be read once more.
    pub(super) fn rewind(&mut self, kept: Bytes) {
        debug_assert!(self.again.is_empty());
        self.again = kept;
    }

    /// Whether nothing is left to be read again.
    pub(super) fn at_source(&self) -> bool {
        self.again.is_empty()
    }

    pub(super) fn fill(&mut self, out: &mut [u8], what: &'static str) -> Result<(), Fault> {
        if let Some(kept) = &self.kept
            && kept.len() + out.len() > self.kept_max
        {
            return Err(Fault::Long);
        }
        let ready = self.again.len().min(out.len());
        out[..ready].copy_from_slice(&self.again.split_to(ready));
        let rest = &mut out[ready..];
        self.source.read_exact(rest).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof { Fault::Truncated(what) } else { Fault::Io(error) }
        })?;
        self.crc = crc64(self.crc, rest);
        self.offset += rest.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(out);
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Fault> {
        Ok(self.bytes::<1>(what)?[0])
    }

    /// `size` bytes, handed on in steps.
    pub(super) fn steps(
        &mut self,
        size: u64,
        what: &'static str,
        on: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.fits(size)?;
        let mut step = vec![0; STEP.min(usize::try_from(size).unwrap_or(STEP))];
        let mut left = size;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(STEP).min(STEP);
            self.fill(&mut step[..part], what)?;
            on(&step[..part])?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Whether so many bytes more may be kept.
    fn fits(&self, size: u64) -> Result<(), Fault> {
        match &self.kept {
            Some(kept) if size > (self.kept_max - kept.len()) as u64 => Err(Fault::Long),
            _ => Ok(()),
        }
    }

    fn take(&mut self, size: u64, what: &'static str) -> Result<Vec<u8>, Fault> {
        if size > STRING_BYTES_MAX {
            return Err(Fault::TooLarge { what, size, limit: STRING_BYTES_MAX });
        }
        if size <= STEP as u64 {
            let mut all = vec![0; size as usize];
            self.fill(&mut all, what)?;
            return Ok(all);
        }
        let mut all = Vec::new();
        self.steps(size, what, &mut |step| {
            all.extend_from_slice(step);
            Ok(())
        })?;
        Ok(all)
    }

    fn any_length(&mut self, what: &'static str) -> Result<Length, Fault> {
        let first = self.byte(what)?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first & 0x3f)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte(what)?)),
            2 if first == 0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.bytes(what)?))),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.bytes(what)?)),
            2 => return Err(Fault::Corrupt("a length of an unknown form")),
            _ => Length::Special(first & 0x3f),
        })
    }

    /// A count or number.
    pub(super) fn length(&mut self, what: &'static str) -> Result<u64, Fault> {
        match self.any_length(what)? {
            Length::Plain(number) => Ok(number),
            Length::Special(_) => Err(Fault::Corrupt("a string where a length should be")),
        }
    }

    /// A string, whole.
    pub(super) fn string(&mut self, what: &'static str) -> Result<Bytes, Fault> {
        Ok(match self.any_length(what)? {
            Length::Plain(size) => self.take(size, what)?.into(),
            Length::Special(0) => i8::from_le_bytes(self.bytes(what)?).to_string().into(),
            Length::Special(1) => i16::from_le_bytes(self.bytes(what)?).to_string().into(),
            Length::Special(2) => i32::from_le_bytes(self.bytes(what)?).to_string().into(),
            Length::Special(3) => self.unpacked(what)?,
            Length::Special(_) => return Err(Fault::Corrupt("a string of an unknown form")),
        })
    }

    fn unpacked(&mut self, what: &'static str) -> Result<Bytes, Fault> {
        let packed = self.length(what)?;
        let size = self.length(what)?;
        if size > STRING_BYTES_MAX {
            return Err(Fault::TooLarge { what, size, limit: STRING_BYTES_MAX });
        }
        let packed = self.take(packed, what)?;
        Ok(lzf::unpack(&packed, size as usize).ok_or(Fault::Corrupt("a packed string"))?.into())
    }

    /// A string in steps; one that is packed comes whole.
    pub(super) fn string_steps(
        &mut self,
        what: &'static str,
        on: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match self.any_length(what)? {
            Length::Plain(size) if size > STRING_BYTES_MAX => {
                Err(Fault::TooLarge { what, size, limit: STRING_BYTES_MAX })
            }
            Length::Plain(size) => self.steps(size, what, on),
            Length::Special(0) => on(i8::from_le_bytes(self.bytes(what)?).to_string().as_bytes()),
            Length::Special(1) => on(i16::from_le_bytes(self.bytes(what)?).to_string().as_bytes()),
            Length::Special(2) => on(i32::from_le_bytes(self.bytes(what)?).to_string().as_bytes()),
            Length::Special(3) => self.unpacked(what)?.chunks(STEP).try_for_each(on),
            Length::Special(_) => Err(Fault::Corrupt("a string of an unknown form")),
        }
    }

    /// Passes over a string without unpacking it.
    pub(super) fn skip_string(&mut self, what: &'static str) -> Result<(), Fault> {
        let size = match self.any_length(what)? {
            Length::Plain(size) => size,
            Length::Special(0) => 1,
            Length::Special(1) => 2,
            Length::Special(2) => 4,
            Length::Special(3) => {
                let packed = self.length(what)?;
                self.length(what)?;
                packed
            }
            Length::Special(_) => return Err(Fault::Corrupt("a string of an unknown form")),
        };
        self.skip(size, what)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, size: u64, what: &'static str) -> Result<(), Fault> {
        if size > STRING_BYTES_MAX {
            return Err(Fault::TooLarge { what, size, limit: STRING_BYTES_MAX });
        }
        self.fits(size)?;
        let (mut step, mut left) = ([0; SKIP_STEP], size);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(SKIP_STEP).min(SKIP_STEP);
            self.fill(&mut step[..part], what)?;
            left -= part as u64;
        }
        Ok(())
    }

    /// A score as text, of snapshots before version 8.
    pub(super) fn text_double(&mut self) -> Result<f64, Fault> {
        let what = "a score";
        match self.byte(what)? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            size => {
                let mut text = [0; 252];
                let text = &mut text[..usize::from(size)];
                self.fill(text, what)?;
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Fault::Corrupt(what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_form() {
        let read =
            |bytes: &[u8]| Input::new(bytes).string("x").map(|string| String::from_utf8_lossy(&string).into_owned());
        let long = [&[0x41, 0x00][..], &[b'a'; 256]].concat();
        for (bytes, text) in [
            (&[3, b'a', b'b', b'c'][..], "abc".to_owned()),
            (&long, "a".repeat(256)),
            (&[0x80, 0, 0, 0, 1, b'z'], "z".to_owned()),
            (&[0x81, 0, 0, 0, 0, 0, 0, 0, 1, b'z'], "z".to_owned()),
            (&[0xc0, 0x80], "-128".to_owned()),
            (&[0xc1, 0, 0x80], "-32768".to_owned()),
            (&[0xc2, 1, 0, 0, 0], "1".to_owned()),
            (&[0xc3, 4, 4, 0, b'a', 0x20, 0], "aaaa".to_owned()),
        ] {
            assert_eq!(read(bytes).unwrap(), text);
            let mut input = Input::new(bytes);
            input.skip_string("x").unwrap();
            assert_eq!(input.offset(), bytes.len() as u64, "skipping takes as much as reading");
            let mut steps = Vec::new();
            Input::new(bytes)
                .string_steps("x", &mut |step| {
                    steps.extend_from_slice(step);
                    Ok(())
                })
                .unwrap();
            assert_eq!(steps, text.as_bytes());
        }
        assert!(matches!(read(&[5, b'a']), Err(Fault::Truncated("x"))));
        assert!(matches!(read(&[0xc4]), Err(Fault::Corrupt(_))));
        assert!(matches!(read(&[0x82]), Err(Fault::Corrupt(_))));
        assert!(matches!(read(&[0x81, 1, 0, 0, 0, 0, 0, 0, 0]), Err(Fault::TooLarge { .. })));
        // Half a gigabyte is announced, nothing comes, little is set aside.
        assert!(matches!(read(&[0x80, 0x20, 0, 0, 0]), Err(Fault::Truncated(_))));
    }

    /// What is kept can be read again, and counts once.
    #[test]
    fn keeps_and_rewinds() {
        let mut input = Input::new(&b"abcdef"[..]);
        input.keep(3);
        assert_eq!(&input.bytes::<2>("x").unwrap(), b"ab");
        assert!(matches!(input.bytes::<2>("x"), Err(Fault::Long)));
        let kept = input.kept();
        input.rewind(kept);
        assert_eq!(input.offset(), 0);
        assert_eq!(&input.bytes::<6>("x").unwrap(), b"abcdef");
        assert_eq!((input.offset(), input.crc()), (6, crc64(0, b"abcdef")));
    }
}
