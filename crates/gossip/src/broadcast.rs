//! News to be spread: each message is sent a limited number of times, the least often sent first.

use std::collections::BTreeMap;

use crate::limits::BROADCASTS_MAX;

/// Messages looked at, at most, when a datagram is filled and the next ones do not fit.
const LOOK_MAX: usize = 64;

/// Names one queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BroadcastId(u64);

#[derive(Debug)]
struct Broadcast {
    topic: Option<String>,
    bytes: Vec<u8>,
}

/// A queue of news, bounded by [`BROADCASTS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    /// By times sent, then newest first.
    queue: BTreeMap<(u32, std::cmp::Reverse<u64>), Broadcast>,
    /// Where the message about a topic is.
    topics: BTreeMap<String, (u32, std::cmp::Reverse<u64>)>,
    next: u64,
}

impl Broadcasts {
    /// Queues a message. With a topic it replaces the one queued about it before: what is known of a node
    /// now makes what was known of it obsolete.
    pub(crate) fn push(&mut self, topic: Option<&str>, bytes: Vec<u8>) -> BroadcastId {
        self.next += 1;
        let key = (0, std::cmp::Reverse(self.next));
        if let Some(topic) = topic
            && let Some(old) = self.topics.insert(topic.to_owned(), key)
        {
            self.queue.remove(&old);
        }
        self.queue.insert(key, Broadcast { topic: topic.map(str::to_owned), bytes });
        while self.queue.len() > BROADCASTS_MAX {
            if let Some((_, dropped)) = self.queue.pop_last()
                && let Some(topic) = dropped.topic
            {
                self.topics.remove(&topic);
            }
        }
        BroadcastId(self.next)
    }

    /// Whether a message is still to be sent.
    pub(crate) fn contains(&self, id: BroadcastId) -> bool {
        self.queue.keys().any(|(_, number)| number.0 == id.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes messages that fit into `room` bytes, each with `overhead` more, and counts them as sent once.
    /// One that was sent `limit` times is done with.
    pub(crate) fn take(&mut self, overhead: usize, room: &mut usize, limit: u32, taken: &mut Vec<Vec<u8>>) {
        let mut chosen = Vec::new();
        for (key, broadcast) in self.queue.iter().take(LOOK_MAX) {
            let needed = broadcast.bytes.len() + overhead;
            if needed <= *room {
                *room -= needed;
                chosen.push(*key);
            }
        }
        for key in chosen {
            let Some(broadcast) = self.queue.remove(&key) else { continue };
            taken.push(broadcast.bytes.clone());
            let sent = key.0 + 1;
            if sent < limit {
                let key = (sent, key.1);
                if let Some(topic) = &broadcast.topic {
                    self.topics.insert(topic.clone(), key);
                }
                self.queue.insert(key, broadcast);
            } else if let Some(topic) = &broadcast.topic {
                self.topics.remove(topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Broadcasts, mut room: usize, limit: u32) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        queue.take(2, &mut room, limit, &mut taken);
        taken
    }

    /// Shows that each message is sent its number of times, the less often sent first.
    #[test]
    fn messages_are_sent_their_number_of_times() {
        let mut queue = Broadcasts::default();
        queue.push(None, vec![1; 10]);
        assert_eq!(take(&mut queue, 100, 3).len(), 1);
        let second = queue.push(None, vec![2; 10]);
        assert_eq!(take(&mut queue, 12, 3), [vec![2; 10]]);
        assert_eq!(take(&mut queue, 100, 3).len(), 2);
        assert!(queue.contains(second));
        assert_eq!(take(&mut queue, 100, 3).len(), 2);
        assert!(!queue.contains(second));
        assert!(queue.is_empty() && queue.topics.is_empty());
    }

    /// Shows that news about a node replaces older news about it.
    #[test]
    fn news_replaces_news() {
        let mut queue = Broadcasts::default();
        let old = queue.push(Some("a"), vec![1]);
        queue.push(Some("b"), vec![2]);
        queue.push(Some("a"), vec![3]);
        assert!(!queue.contains(old));
        assert_eq!(take(&mut queue, 100, 1), [vec![3], vec![2]]);
        assert!(queue.topics.is_empty());
    }

    /// Shows that the queue is bounded, and that what does not fit now is kept.
    #[test]
    fn the_queue_is_bounded() {
        let mut queue = Broadcasts::default();
        for n in 0..BROADCASTS_MAX + 10 {
            queue.push(Some(&n.to_string()), vec![0; 20]);
        }
        assert_eq!(queue.len(), BROADCASTS_MAX);
        assert_eq!(queue.topics.len(), BROADCASTS_MAX);
        assert!(take(&mut queue, 21, 4).is_empty());
        assert_eq!(queue.len(), BROADCASTS_MAX);
    }
}
