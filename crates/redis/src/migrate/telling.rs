//! How a server tells when a key expires.
//!
//! Since 7.0 there is `PEXPIRETIME`, to the millisecond. Before, there is only what is left (`PTTL`), which together with the
//! server's own clock, asked for right after it, is right to a millisecond. A script could do both at once, but writers' pauses
//! hold scripts back, too.

use bytes::Bytes;

use crate::resp::{Command, Value};

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// As a time.
    Absolute,
    /// As what is left.
    Relative,
}

impl Telling {
    /// What to ask.
    pub(super) fn ask(self, key: &Bytes) -> Vec<Command> {
        match self {
            Self::Absolute => vec![Command::new("PEXPIRETIME").arg(key)],
            Self::Relative => vec![Command::new("PTTL").arg(key), Command::new("TIME")],
        }
    }

    /// How many answers there are.
    pub(super) fn answers(self) -> usize {
        match self {
            Self::Absolute => 1,
            Self::Relative => 2,
        }
    }

    /// When, in milliseconds since 1970, of the first answers; `None`: never, or there is no such key.
    pub(super) fn of(self, answers: &[Value]) -> Option<u64> {
        let found = u64::try_from(answers.first()?.int()?).ok()?;
        match self {
            Self::Absolute => Some(found),
            Self::Relative => {
                let now = answers.get(1)?.array()?;
                let part = |index: usize| now.get(index)?.text()?.parse::<u64>().ok();
                part(0)?.checked_mul(1000)?.checked_add(part(1)? / 1000)?.checked_add(found)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let text = |text: &'static str| Value::Bulk(text.into());
        let clock = Value::Array(vec![text("1700000000"), text("123999")]);
        for (telling, answers, expected) in [
            (Telling::Absolute, vec![Value::Int(5)], Some(5)),
            (Telling::Absolute, vec![Value::Int(-1)], None),
            (Telling::Relative, vec![Value::Int(7), clock.clone()], Some(1_700_000_000_130)),
            (Telling::Relative, vec![Value::Int(-2), clock], None),
            (Telling::Relative, vec![Value::Int(7)], None),
        ] {
            assert_eq!(telling.of(&answers), expected, "{answers:?}");
            assert_eq!(telling.ask(&Bytes::from_static(b"k")).len(), telling.answers());
        }
    }
}
