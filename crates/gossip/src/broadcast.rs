//! News to be spread: each message is sent a limited number of times, the least often sent first.

use std::collections::VecDeque;

use crate::index::Index;
use crate::limits::BROADCASTS_MAX;
use crate::news::News;
use crate::wire::{Bundle, COMPOUND_PART_BYTES};

/// Messages looked at, at most, when a datagram is filled and the next ones do not fit.
const LOOK_MAX: usize = 64;

/// No message is shorter, in bytes: with less room there is no use in looking on.
const SHORTEST: usize = 8;

/// Names one queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BroadcastId(u32);

/// A queued message.
#[derive(Debug)]
struct Broadcast {
    news: News,
    number: u32,
    /// Encoded length, in bytes.
    length: u32,
    /// Times sent; also its turn.
    sent: u8,
}

/// Where a message of some turn is. Ordered by its number, which goes round after four thousand million: a message
/// that is newer than that counts as old among those that were sent as often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: u32,
    slot: u32,
}

/// Places that a turn keeps room for when it is empty.
const ROOM_KEPT: usize = 64;

/// A queue of news, bounded by [`BROADCASTS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Broadcasts {
    slots: Vec<Option<Broadcast>>,
    free: Vec<u32>,
    /// Those that were sent as often as the turn's place says, the newest last.
    turns: Vec<VecDeque<Place>>,
    /// Slots of news about members.
    topics: Index,
    next: u32,
    overflowed: bool,
}

/// Topics are numbers of our own: nobody chooses them, so they need no key.
fn hash_of(topic: u32) -> u64 {
    u64::from(topic).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_at(slots: &[Option<Broadcast>], slot: u32) -> u64 {
    slots[slot as usize].as_ref().and_then(|broadcast| broadcast.news.topic()).map_or(0, hash_of)
}

impl Broadcasts {
    /// Queues news. That about a member replaces what was queued about it before: what is known now makes what
    /// was known obsolete.
    pub(crate) fn push(&mut self, news: News) -> BroadcastId {
        self.next = self.next.wrapping_add(1);
        if let Some(old) = news.topic().and_then(|topic| self.about(topic)) {
            self.unplace(old);
            self.release(old);
        }
        if self.len() >= BROADCASTS_MAX
            && let Some(last) = self.turns.iter_mut().rev().find_map(VecDeque::pop_front)
        {
            self.release(last.slot);
            self.overflowed = true;
        }
        let length = u32::try_from(news.encode().len()).unwrap_or(u32::MAX);
        self.place(Broadcast { news, number: self.next, length, sent: 0 });
        BroadcastId(self.next)
    }

    /// The slot of the news about a member.
    fn about(&self, topic: u32) -> Option<u32> {
        self.topics.get(hash_of(topic), |slot| self.topic(slot) == Some(topic))
    }

    fn topic(&self, slot: u32) -> Option<u32> {
        self.slots[slot as usize].as_ref()?.news.topic()
    }

    fn place(&mut self, broadcast: Broadcast) {
        let (number, topic) = (broadcast.number, broadcast.news.topic());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(broadcast);
        if let Some(topic) = topic {
            self.topics.insert(hash_of(topic), slot, |slot| hash_at(&self.slots, slot));
        }
        self.queue(0, Place { number, slot });
    }

    /// Puts a message among those of a turn.
    fn queue(&mut self, turn: usize, place: Place) {
        if self.turns.len() <= turn {
            self.turns.resize_with(turn + 1, VecDeque::new);
        }
        let places = &mut self.turns[turn];
        let at = places.partition_point(|other| *other < place);
        places.insert(at, place);
    }

    /// Takes a message out of its turn.
    fn unplace(&mut self, slot: u32) {
        let Some(broadcast) = &self.slots[slot as usize] else { return };
        let places = &mut self.turns[usize::from(broadcast.sent)];
        if let Ok(at) = places.binary_search(&Place { number: broadcast.number, slot }) {
            places.remove(at);
        }
    }

    /// Forgets a message that is in no turn.
    fn release(&mut self, slot: u32) {
        if let Some(topic) = self.topic(slot) {
            self.topics.remove(hash_of(topic), slot, |slot| hash_at(&self.slots, slot));
        }
        self.slots[slot as usize] = None;
        self.free.push(slot);
        if self.is_empty() {
            *self = Self { next: self.next, overflowed: self.overflowed, ..Self::default() };
        }
    }

    /// Whether a message is still to be sent.
    pub(crate) fn contains(&self, id: BroadcastId) -> bool {
        self.slots.iter().flatten().any(|broadcast| broadcast.number == id.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Grows with each message that is queued.
    pub(crate) fn queued_ever(&self) -> u32 {
        self.next
    }

    /// Whether messages were dropped, since this was asked last, before they had been sent as often as they should.
    pub(crate) fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// Takes messages that fit into `room` bytes, and counts them as sent once. One that was sent `limit` times is
    /// done with. `head`: bytes that go before each.
    pub(crate) fn take(&mut self, head: &[u8], room: &mut usize, limit: u32, bundle: &mut Bundle) {
        let overhead = COMPOUND_PART_BYTES + head.len();
        let (mut taken, mut looked) = (Vec::new(), 0);
        'turns: for places in &mut self.turns {
            let mut at = places.len();
            while at > 0 {
                if looked == LOOK_MAX || *room < overhead + SHORTEST || bundle.is_full() {
                    break 'turns;
                }
                (at, looked) = (at - 1, looked + 1);
                let Some(broadcast) = &self.slots[places[at].slot as usize] else { continue };
                let needed = broadcast.length as usize + overhead;
                if needed > *room {
                    continue;
                }
                *room -= needed;
                bundle.write(|writer| {
                    writer.plain(head);
                    broadcast.news.write(writer);
                });
                taken.extend(places.remove(at));
            }
            if places.is_empty() && places.capacity() > ROOM_KEPT {
                *places = VecDeque::new();
            }
        }
        for place in taken {
            let Some(broadcast) = &mut self.slots[place.slot as usize] else { continue };
            broadcast.sent += 1;
            let sent = broadcast.sent;
            if u32::from(sent) < limit.min(255) {
                self.queue(usize::from(sent), place);
            } else {
                self.release(place.slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;
    use crate::wire::{split_compound, swim_type};

    fn plain(byte: u8, length: usize) -> News {
        News::Plain(vec![byte; length].into())
    }

    fn death(directory: &Directory, about: &str, incarnation: u32) -> News {
        News::Dead { about: directory.name(about), from: directory.name("x"), incarnation }
    }

    fn take(queue: &mut Broadcasts, mut room: usize, limit: u32) -> Vec<Vec<u8>> {
        let mut bundle = Bundle::new();
        queue.take(&[], &mut room, limit, &mut bundle);
        if bundle.is_empty() {
            return Vec::new();
        }
        let message = bundle.join();
        match message.split_first() {
            Some((&swim_type::COMPOUND, body)) => {
                split_compound(body).unwrap().iter().map(|part| part.to_vec()).collect()
            }
            _ => vec![message],
        }
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
        assert!(queue.is_empty());
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
        assert!(queue.is_empty());
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
        assert_eq!(directory.len(), BROADCASTS_MAX + 1, "what is dropped holds no name");
        assert!(take(&mut queue, 21, 4).is_empty());
        assert_eq!(queue.len(), BROADCASTS_MAX);
    }
}
