//! News to be spread: each message is sent a limited number of times, the least often sent first.

use std::collections::BTreeMap;

use crate::limits::BROADCASTS_MAX;
use crate::news::News;

/// Messages looked at, at most, when a datagram is filled and the next ones do not fit.
const LOOK_MAX: usize = 64;

/// No message is shorter, in bytes: with less room there is no use in looking on.
const SHORTEST: usize = 8;

/// Names one queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BroadcastId(u64);

#[derive(Debug)]
struct Broadcast {
    news: News,
    /// Encoded length, in bytes.
    length: u32,
}

/// Times sent, then newest first: 8 bits and 56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

const NUMBER_MAX: u64 = (1 << 56) - 1;

impl Place {
    fn new(sent: u32, number: u64) -> Self {
        Self((u64::from(sent.min(255)) << 56) | (NUMBER_MAX - number.min(NUMBER_MAX)))
    }

    fn sent(self) -> u32 {
        (self.0 >> 56) as u32
    }

    fn number(self) -> u64 {
        NUMBER_MAX - (self.0 & NUMBER_MAX)
    }
}

/// A queue of news, bounded by [`BROADCASTS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    queue: BTreeMap<Place, Broadcast>,
    /// Where the news about a member is, by its name's number.
    topics: BTreeMap<u32, Place>,
    next: u64,
}

impl Broadcasts {
    /// Queues news. That about a member replaces what was queued about it before: what is known now makes what
    /// was known obsolete.
    pub(crate) fn push(&mut self, news: News) -> BroadcastId {
        self.next += 1;
        let place = Place::new(0, self.next);
        if let Some(topic) = news.topic()
            && let Some(old) = self.topics.insert(topic, place)
        {
            self.queue.remove(&old);
        }
        let length = u32::try_from(news.encode().len()).unwrap_or(u32::MAX);
        self.queue.insert(place, Broadcast { news, length });
        while self.queue.len() > BROADCASTS_MAX {
            if let Some((_, dropped)) = self.queue.pop_last()
                && let Some(topic) = dropped.news.topic()
            {
                self.topics.remove(&topic);
            }
        }
        BroadcastId(self.next)
    }

    /// Whether a message is still to be sent.
    pub(crate) fn contains(&self, id: BroadcastId) -> bool {
        self.queue.keys().any(|place| place.number() == id.0)
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
        if self.queue.is_empty() || *room <= overhead {
            return;
        }
        let mut chosen = Vec::new();
        for (place, broadcast) in self.queue.iter().take(LOOK_MAX) {
            let needed = broadcast.length as usize + overhead;
            if needed <= *room {
                *room -= needed;
                chosen.push(*place);
            }
            if *room < overhead + SHORTEST {
                break;
            }
        }
        for place in chosen {
            let Some(broadcast) = self.queue.remove(&place) else { continue };
            taken.push(broadcast.news.encode());
            let sent = place.sent() + 1;
            let topic = broadcast.news.topic();
            if sent < limit.min(255) {
                let place = Place::new(sent, place.number());
                if let Some(topic) = topic {
                    self.topics.insert(topic, place);
                }
                self.queue.insert(place, broadcast);
            } else if let Some(topic) = topic {
                self.topics.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    fn plain(byte: u8, length: usize) -> News {
        News::Plain(vec![byte; length].into())
    }

    fn death(directory: &Directory, about: &str, incarnation: u32) -> News {
        News::Dead { about: directory.name(about), from: directory.name("x"), incarnation }
    }

    fn take(queue: &mut Broadcasts, mut room: usize, limit: u32) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        queue.take(2, &mut room, limit, &mut taken);
        taken
    }

    /// Shows that each message is sent its number of times, the less often sent first.
    #[test]
    fn messages_are_sent_their_number_of_times() {
        let mut queue = Broadcasts::default();
        queue.push(plain(1, 10));
        assert_eq!(take(&mut queue, 100, 3).len(), 1);
        let second = queue.push(plain(2, 10));
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
        let directory = Directory::new();
        let mut queue = Broadcasts::default();
        let old = queue.push(death(&directory, "a", 1));
        queue.push(death(&directory, "b", 2));
        let newest = death(&directory, "a", 3);
        queue.push(newest.clone());
        assert!(!queue.contains(old));
        assert_eq!(take(&mut queue, 200, 1), [newest.encode(), death(&directory, "b", 2).encode()]);
        assert!(queue.topics.is_empty());
    }

    /// Shows that the queue is bounded, and that what does not fit now is kept.
    #[test]
    fn the_queue_is_bounded() {
        let directory = Directory::new();
        let mut queue = Broadcasts::default();
        for n in 0..BROADCASTS_MAX + 10 {
            queue.push(death(&directory, &n.to_string(), 1));
        }
        assert_eq!(queue.len(), BROADCASTS_MAX);
        assert_eq!(queue.topics.len(), BROADCASTS_MAX);
        assert!(take(&mut queue, 21, 4).is_empty());
        assert_eq!(queue.len(), BROADCASTS_MAX);
    }
}
