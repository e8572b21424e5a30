//! Expiries while a migration runs.
//!
//! A target that expired keys by its own clock would lose those whose expiry is renewed on the source: the renewal may
//! still be on its way, and finds nothing to renew. A replica does not expire keys for that reason, it waits for its
//! master's `DEL`. Masters cannot be told to wait, so while a migration runs each expiry on the target is *held*: written
//! as [`HOLD_MS`] later than it is. The source's `DEL` removes the key when its time has come; at the end each held
//! expiry is released to the millisecond. A held expiry is recognised by its size alone, so nothing has to be remembered.

use bytes::Bytes;

/// How much later a held expiry is: 142,808 years. No real expiry is so late, and Redis takes it.
pub(super) const HOLD_MS: u64 = 1 << 52;

/// The held form of an expiry, in milliseconds since 1970. One that is as late as a held one is left as it is.
pub(super) fn hold(at_ms: u64) -> u64 {
    if at_ms < HOLD_MS { at_ms + HOLD_MS } else { at_ms }
}

/// The expiry that is meant, held or not.
pub(super) fn release(at_ms: u64) -> u64 {
    if (HOLD_MS..2 * HOLD_MS).contains(&at_ms) { at_ms - HOLD_MS } else { at_ms }
}

/// Whether an expiry is in its held form.
pub(super) fn is_held(at_ms: u64) -> bool {
    release(at_ms) != at_ms
}

/// A write of the stream with every relative expiry made absolute, as seen at `now_ms`: servers before 7.0 send `EXPIRE key
/// 10`, which would mean something else later. Conditions of the `EXPIRE` family are dropped, because a master sends only
/// what it has carried out.
pub(super) fn absolute(mut words: Vec<Bytes>, now_ms: u64) -> Vec<Bytes> {
    let Some(name) = words.first().map(|name| name.to_ascii_uppercase()) else { return words };
    let at = |text: Option<&Bytes>, unit: u64, relative: bool| -> Option<Bytes> {
        let value: i64 = std::str::from_utf8(text?).ok()?.parse().ok()?;
        let base = if relative { i64::try_from(now_ms).ok()? } else { 0 };
        let at = value.checked_mul(i64::try_from(unit).ok()?)?.checked_add(base)?;
        Some(Bytes::from(at.to_string()))
    };
    let family = |words: Vec<Bytes>, unit, relative| match at(words.get(2), unit, relative) {
        Some(at) => vec![Bytes::from_static(b"PEXPIREAT"), words[1].clone(), at],
        None => words,
    };
    match name.as_slice() {
        b"EXPIRE" => family(words, 1000, true),
        b"PEXPIRE" => family(words, 1, true),
        b"EXPIREAT" => family(words, 1000, false),
        b"PEXPIREAT" => family(words, 1, false),
        b"SETEX" | b"PSETEX" if words.len() == 4 => {
            match at(words.get(2), if name == b"SETEX" { 1000 } else { 1 }, true) {
                Some(at) => {
                    let (set, pxat) = (Bytes::from_static(b"SET"), Bytes::from_static(b"PXAT"));
                    vec![set, words[1].clone(), words[3].clone(), pxat, at]
                }
                None => words,
            }
        }
        b"SET" | b"GETEX" => {
            for index in if name == b"SET" { 3 } else { 2 }..words.len() {
                let form = match words[index].to_ascii_uppercase().as_slice() {
                    b"EX" => (1000, true),
                    b"PX" => (1, true),
                    b"EXAT" => (1000, false),
                    _ => continue,
                };
                if let Some(at) = at(words.get(index + 1), form.0, form.1) {
                    words[index] = Bytes::from_static(b"PXAT");
                    words[index + 1] = at;
                }
                break;
            }
            words
        }
        b"RESTORE" | b"RESTORE-ASKING" => {
            let has =
                |words: &[Bytes], option: &[u8]| words.iter().skip(4).any(|word| word.eq_ignore_ascii_case(option));
            if words.get(2).is_some_and(|ttl| ttl.as_ref() != b"0")
                && !has(&words, b"ABSTTL")
                && let Some(at) = at(words.get(2), 1, true)
            {
                words[2] = at;
                words.push(Bytes::from_static(b"ABSTTL"));
            }
            words
        }
        _ => words,
    }
}

/// Which word of a write of the stream, made absolute before, is its expiry.
fn place(words: &[Bytes]) -> Option<usize> {
    match words.first()?.to_ascii_uppercase().as_slice() {
        b"PEXPIREAT" => Some(2),
        b"SET" => words.iter().skip(3).position(|word| word.eq_ignore_ascii_case(b"PXAT")).map(|found| found + 4),
        b"GETEX" => words.iter().skip(2).position(|word| word.eq_ignore_ascii_case(b"PXAT")).map(|found| found + 3),
        b"RESTORE" | b"RESTORE-ASKING" if words.get(2).is_some_and(|ttl| ttl.as_ref() != b"0") => Some(2),
        _ => None,
    }
}

/// Whether a write of the stream, made absolute before, has an expiry.
pub(super) fn has_expiry(words: &[Bytes]) -> bool {
    place(words).is_some()
}

/// A write of the stream, made absolute before, with its expiry put through `change`.
pub(super) fn with_expiry(words: &mut [Bytes], change: impl Fn(u64) -> u64) {
    if let Some(word) = place(words).and_then(|index| words.get_mut(index))
        && let Some(at) = std::str::from_utf8(word).ok().and_then(|text| text.parse::<i64>().ok())
    {
        *word = Bytes::from(change(u64::try_from(at).unwrap_or(0)).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Bytes> {
        text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn text(words: &[Bytes]) -> String {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Every form in which a master of any version tells an expiry.
    #[test]
    fn forms() {
        for (sent, absolute_form, held) in [
            ("EXPIRE k 10", "PEXPIREAT k 11000", "PEXPIREAT k 4503599627381496"),
            ("pexpire k 10", "PEXPIREAT k 1010", "PEXPIREAT k 4503599627371506"),
            ("EXPIREAT k 10", "PEXPIREAT k 10000", "PEXPIREAT k 4503599627380496"),
            ("PEXPIREAT k 10 GT", "PEXPIREAT k 10", "PEXPIREAT k 4503599627370506"),
            ("PEXPIREAT k -5", "PEXPIREAT k -5", "PEXPIREAT k 4503599627370496"),
            ("SETEX k 10 v", "SET k v PXAT 11000", "SET k v PXAT 4503599627381496"),
            ("PSETEX k 10 v", "SET k v PXAT 1010", "SET k v PXAT 4503599627371506"),
            ("SET k EX", "SET k EX", "SET k EX"),
            ("SET k v KEEPTTL", "SET k v KEEPTTL", "SET k v KEEPTTL"),
            ("SET k PX PX 10", "SET k PX PXAT 1010", "SET k PX PXAT 4503599627371506"),
            ("SET k v EXAT 10", "SET k v PXAT 10000", "SET k v PXAT 4503599627380496"),
            ("SET k v pxat 10", "SET k v pxat 10", "SET k v pxat 4503599627370506"),
            ("GETEX k EX 1", "GETEX k PXAT 2000", "GETEX k PXAT 4503599627372496"),
            (
                "RESTORE k 10 x REPLACE",
                "RESTORE k 1010 x REPLACE ABSTTL",
                "RESTORE k 4503599627371506 x REPLACE ABSTTL",
            ),
            ("RESTORE k 0 x", "RESTORE k 0 x", "RESTORE k 0 x"),
            ("RESTORE k 10 x ABSTTL", "RESTORE k 10 x ABSTTL", "RESTORE k 4503599627370506 x ABSTTL"),
            ("INCR k", "INCR k", "INCR k"),
            ("EXPIRE", "EXPIRE", "EXPIRE"),
        ] {
            let mut found = absolute(words(sent), 1000);
            assert_eq!(text(&found), absolute_form, "{sent}");
            with_expiry(&mut found, hold);
            assert_eq!(text(&found), held, "{sent}");
        }
    }

    proptest! {
        /// What is held can be released, and is recognised; holding twice is holding once.
        #[test]
        fn held_and_released(at in 0u64..1 << 51) {
            prop_assert_eq!(release(hold(at)), at);
            prop_assert_eq!(hold(hold(at)), hold(at));
            prop_assert!(is_held(hold(at)) && !is_held(at));
        }
    }
}
