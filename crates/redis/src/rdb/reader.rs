//! The records of a snapshot, one after another.

use std::io::Read;

use bytes::Bytes;

use super::error::{Fault, RdbError};
use super::input::Input;
use super::value::{self, Kind, Piece};

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Something about the snapshot: `redis-ver`, `repl-id`, `repl-offset`, ….
    Note {
        /// Its name.
        name: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The source of a library of functions, as `FUNCTION LOAD` takes it.
    Function(Bytes),
    /// A key.
    Key(Key),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The database.
    pub db: u32,
    /// Its name.
    pub name: Bytes,
    /// When it expires, in milliseconds since 1970; `None`: never.
    pub expires_ms: Option<u64>,
    /// How its value is written.
    pub kind: Kind,
    /// Its value.
    pub value: Value,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As the server wrote it, for [`super::dump`] or [`super::pieces_of`].
    Whole(Bytes),
    /// Longer than is kept whole: call [`Reader::pieces`] or [`Reader::pass_over`] before the next record; without that, it is
    /// passed over.
    Long,
}

/// Reads a snapshot.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    version: u16,
    db: u32,
    whole_bytes_max: usize,
    /// The long value that comes next.
    long: Option<(Kind, Bytes)>,
    key: Option<Bytes>,
    ended: bool,
}

/// The newest version that is understood. Source: `RDB_VERSION` of Redis 7.2.
const VERSION_MAX: u16 = 11;

/// Bytes of a value that is kept whole, unless told otherwise: small enough for hundreds of them to be on their way, and for
/// a target not to stand still while it takes one in.
const WHOLE_BYTES_MAX: usize = 1 << 20;

impl<R: Read> Reader<R> {
    /// Begins with the nine bytes that tell what it is.
    pub fn new(source: R) -> Result<Self, RdbError> {
        let mut input = Input::new(source);
        let version = start(&mut input).map_err(|fault| RdbError { offset: input.offset(), key: None, fault })?;
        Ok(Self { input, version, db: 0, whole_bytes_max: WHOLE_BYTES_MAX, long: None, key: None, ended: false })
    }

    /// Sets [`Self::whole_bytes_max`].
    #[must_use]
    pub fn keep_whole(mut self, bytes: usize) -> Self {
        self.whole_bytes_max = bytes;
        self
    }

    /// Bytes of a value that is kept whole; default 1 MiB.
    pub fn whole_bytes_max(&self) -> usize {
        self.whole_bytes_max
    }

    /// The version of the snapshot, 1 to 11.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Bytes read so far. After a [`Value::Long`] that was neither taken apart nor passed over: somewhere within it.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The next record. `None`: the snapshot is at its end, and its checksum is right.
    pub fn next_record(&mut self) -> Result<Option<Record>, RdbError> {
        self.pass_over()?;
        self.key = None;
        if self.ended {
            return Ok(None);
        }
        self.record().map_err(|fault| self.error(fault))
    }

    /// Passes over the long value that [`Value::Long`] announced, if it was not taken apart.
    pub fn pass_over(&mut self) -> Result<(), RdbError> {
        self.pieces(&mut |_| Ok(()))
    }

    /// Takes the long value apart that [`Value::Long`] announced. `on` gives [`Fault::Stopped`] to give up.
    pub fn pieces(&mut self, on: &mut dyn FnMut(Piece) -> Result<(), Fault>) -> Result<(), RdbError> {
        let Some((kind, head)) = self.long.take() else { return Ok(()) };
        self.input.rewind(head);
        value::read(&mut self.input, kind, on).map_err(|fault| self.error(fault))?;
        debug_assert!(self.input.at_source());
        Ok(())
    }

    fn error(&self, fault: Fault) -> RdbError {
        RdbError { offset: self.input.offset(), key: self.key.clone(), fault }
    }

    fn record(&mut self) -> Result<Option<Record>, Fault> {
        let what = "the snapshot";
        let mut expires_ms = None;
        loop {
            match self.input.byte(what)? {
                // Slots of a cluster node, from version 12 on: refused with its version. Below, what comes before a key.
                247 => {
                    self.input.length(what)?;
                    if self.input.length(what)? != 2 {
                        return Err(Fault::Corrupt("a module's data"));
                    }
                    self.input.length(what)?;
                    value::skip_module(&mut self.input)?;
                }
                248 => drop(self.input.length(what)?),
                249 => drop(self.input.byte(what)?),
                245 => return Ok(Some(Record::Function(self.input.string("a function")?))),
                246 => return Err(Fault::Unsupported("a function of a release candidate of Redis 7".to_owned())),
                250 => {
                    return Ok(Some(Record::Note {
                        name: self.input.string("a note")?,
                        value: self.input.string("a note")?,
                    }));
                }
                251 => {
                    self.input.length(what)?;
                    self.input.length(what)?;
                }
                252 => expires_ms = Some(expiry(i64::from_le_bytes(self.input.bytes(what)?))),
                253 => expires_ms = Some(expiry(i64::from(i32::from_le_bytes(self.input.bytes(what)?)) * 1000)),
                254 => {
                    self.db = u32::try_from(self.input.length(what)?)
                        .map_err(|_| Fault::Corrupt("the number of a database"))?
                }
                255 => return self.end().map(|()| None),
                byte => {
                    let kind = Kind::of(byte).ok_or_else(|| Fault::Unsupported(format!("a value of type {byte}")))?;
                    let name = self.input.string("a key")?;
                    self.key = Some(name.clone());
                    return Ok(Some(Record::Key(Key {
                        db: self.db,
                        name,
                        expires_ms,
                        kind,
                        value: self.value(kind)?,
                    })));
                }
            }
        }
    }

    fn value(&mut self, kind: Kind) -> Result<Value, Fault> {
        self.input.keep(self.whole_bytes_max);
        let passed = value::skip(&mut self.input, kind);
        let kept = self.input.kept();
        match passed {
            Ok(()) => Ok(Value::Whole(kept)),
            Err(Fault::Long) => {
                self.long = Some((kind, kept));
                Ok(Value::Long)
            }
            Err(fault) => Err(fault),
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.ended = true;
        if self.version < 5 {
            return Ok(());
        }
        let computed = self.input.crc();
        let found = u64::from_le_bytes(self.input.bytes("the checksum")?);
        // A server that does not compute it writes zero.
        if found == 0 || found == computed { Ok(()) } else { Err(Fault::Checksum { found, computed }) }
    }
}

fn start<R: Read>(input: &mut Input<R>) -> Result<u16, Fault> {
    let head: [u8; 9] = input.bytes("the first nine bytes")?;
    let version = head
        .strip_prefix(b"REDIS")
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok());
    match version.ok_or(Fault::Corrupt("it does not begin as a snapshot does"))? {
        0 => Err(Fault::Corrupt("its version is 0")),
        version if version > VERSION_MAX => {
            Err(Fault::Unsupported(format!("version {version} (up to {VERSION_MAX} is understood)")))
        }
        version => Ok(version),
    }
}

/// A time before 1970 has long passed.
fn expiry(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
