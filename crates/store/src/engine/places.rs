//! Numbered places for things, so that who has been told the number finds the thing without a search.

/// Things of one allocation: growing moves none of them.
const CHUNK: usize = 4096;

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// Things, each in its place. A place that has become free is given out again; its room is kept until then.
pub(crate) struct Places<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<Place>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    pub(crate) fn insert(&mut self, thing: T) -> Place {
        if let Some(place) = self.free.pop() {
            *self.at(place) = Some(thing);
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("one has room");
        chunk.push(Some(thing));
        Place(u32::try_from(before + chunk.len() - 1).expect("memory ends before 2^32 of them"))
    }

    pub(crate) fn get(&self, place: Place) -> Option<&T> {
        self.chunks[place.0 as usize / CHUNK][place.0 as usize % CHUNK].as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.at(place).as_mut()
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let thing = self.at(place).take();
        if thing.is_some() {
            self.free.push(place);
        }
        thing
    }

    fn at(&mut self, place: Place) -> &mut Option<T> {
        &mut self.chunks[place.0 as usize / CHUNK][place.0 as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is found where it was put, over many chunks; what is free is used before there is more.
    #[test]
    fn each_has_a_place() {
        let mut places = Places::default();
        let all: Vec<Place> = (0..3 * CHUNK).map(|thing| places.insert(thing)).collect();
        assert!(all.iter().enumerate().all(|(thing, place)| places.get(*place) == Some(&thing)));
        let gone = all[CHUNK + 1];
        assert_eq!(places.remove(gone), Some(CHUNK + 1));
        assert_eq!(places.remove(gone), None);
        assert_eq!(places.get(gone), None);
        assert_eq!(places.insert(7), gone);
        assert_eq!(places.get_mut(gone), Some(&mut 7));
        assert!(!all.contains(&places.insert(8)), "it was free once");
    }
}
