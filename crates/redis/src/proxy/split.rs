//! A command on keys of several slots, as one command for each slot. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::slot::Slot;

use super::keys::Words;
use super::request::encode;

/// One part of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) slot: Slot,
    pub(crate) request: Bytes,
    /// Which keys of the whole these are, from 0, in the order of the part.
    pub(crate) places: Vec<u32>,
}

/// Splits `NAME (key word…)…`, with `step` words for each key. Within a part the order is that of the whole, so of the
/// same key given twice the last one counts. `None`: words are missing; the server says so best.
pub(crate) fn split(words: Words<'_>, step: usize) -> Option<Vec<Part>> {
    let name = words.get(0)?;
    if !(words.len() - 1).is_multiple_of(step) {
        return None;
    }
    let mut groups: BTreeMap<Slot, (Vec<u32>, Vec<&[u8]>)> = BTreeMap::new();
    for (place, index) in (1..words.len()).step_by(step).enumerate() {
        let (places, parts) = groups.entry(Slot::of_key(words.get(index)?)).or_insert_with(|| (vec![], vec![name]));
        places.push(u32::try_from(place).ok()?);
        parts.extend((index..index + step).filter_map(|index| words.get(index)));
    }
    Some(
        groups
            .into_iter()
            .map(|(slot, (places, parts))| Part { slot, request: encode(parts).freeze(), places })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::with_words;
    use super::*;

    fn parts(line: &str, step: usize) -> Option<Vec<(String, Vec<u32>)>> {
        with_words(line, |words| {
            Some(
                split(words, step)?
                    .into_iter()
                    .map(|part| {
                        let text = String::from_utf8(part.request.to_vec()).unwrap();
                        let words: Vec<_> = text.split("\r\n").skip(2).step_by(2).collect();
                        (words.join(" "), part.places)
                    })
                    .collect(),
            )
        })
    }

    /// Keys of one slot stay together and in order, with what belongs to them.
    #[test]
    fn splits() {
        assert_eq!(
            parts("MGET {a}1 b {a}2", 1),
            Some(vec![("MGET b".to_owned(), vec![1]), ("MGET {a}1 {a}2".to_owned(), vec![0, 2])])
        );
        assert_eq!(
            parts("MSET b 1 a 2 b 3", 2),
            Some(vec![("MSET b 1 b 3".to_owned(), vec![0, 2]), ("MSET a 2".to_owned(), vec![1])])
        );
        assert_eq!(parts("MSET b 1 a", 2), None);
    }
}
