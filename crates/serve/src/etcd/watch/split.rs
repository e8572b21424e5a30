//! Events in messages that are not too large.

use prost::Message;
use regrow_store::proto::mvccpb::Event;

use crate::etcd::limits::EVENTS_BYTES_MAX;

/// Cuts events into messages of about [`EVENTS_BYTES_MAX`] bytes: between revisions, and within one only with
/// `fragment`, where the flag says that the same revision goes on in the next message.
pub(super) fn split(events: Vec<Event>, fragment: bool) -> Vec<(Vec<Event>, bool)> {
    let mut pieces: Vec<(Vec<Event>, bool)> = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for event in events {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let (size, goes_on) = (event.encoded_len(), last == Some(revision));
        last = Some(revision);
        match pieces.last_mut() {
            Some((piece, _)) if bytes + size <= EVENTS_BYTES_MAX || (goes_on && !fragment) => {
                bytes += size;
                piece.push(event);
            }
            before => {
                if let Some((_, more)) = before {
                    *more = goes_on;
                }
                bytes = size;
                pieces.push((vec![event], false));
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use regrow_store::proto::mvccpb::KeyValue;

    use super::*;

    fn events(revisions: &[i64]) -> Vec<Event> {
        let value = vec![b'v'; EVENTS_BYTES_MAX * 2 / 5];
        let kv = |revision| KeyValue { mod_revision: revision, value: value.clone().into(), ..KeyValue::default() };
        revisions.iter().map(|revision| Event { kv: Some(kv(*revision)), ..Event::default() }).collect()
    }

    fn shape(revisions: &[i64], fragment: bool) -> Vec<(Vec<i64>, bool)> {
        let of = |event: &Event| event.kv.as_ref().expect("a key").mod_revision;
        split(events(revisions), fragment).iter().map(|(piece, more)| (piece.iter().map(of).collect(), *more)).collect()
    }

    /// Two events fit into a message. Without fragments a revision stays whole however large it is.
    #[test]
    fn messages_are_cut_between_revisions() {
        assert_eq!(shape(&[1, 2, 3], false), [(vec![1, 2], false), (vec![3], false)]);
        assert_eq!(shape(&[1, 2, 2, 2, 3], false), [(vec![1, 2, 2, 2], false), (vec![3], false)]);
        assert_eq!(shape(&[1], false), [(vec![1], false)]);
        assert_eq!(shape(&[], false), []);
    }

    /// With fragments every message is small, and says whether its last revision goes on.
    #[test]
    fn fragments_cut_within_a_revision() {
        assert_eq!(shape(&[1, 2, 2, 3], true), [(vec![1, 2], true), (vec![2, 3], false)]);
        assert_eq!(shape(&[7, 7, 7, 7, 7], true), [(vec![7, 7], true), (vec![7, 7], true), (vec![7], false)]);
        assert_eq!(shape(&[1, 2, 3, 4], true), [(vec![1, 2], false), (vec![3, 4], false)]);
    }
}
