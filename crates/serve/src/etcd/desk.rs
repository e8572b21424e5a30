//! Who is at a connection, and the door that they have.
//!
//! **How.** A door without a guard is the same for all. Else what a request shows is looked up once, and kept for those
//! that follow with the same: a call costs a comparison of the headers and a look at whether the credentials still last.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use http::HeaderMap;

use super::{
    Door, routes,
    transport::{self, Reception},
};
use crate::access::{Caller, From, Kept, Peer, Shown, Visit};

/// The desks of a door's connections.
pub(super) fn reception(door: Door) -> Reception {
    if door.guard.is_open() {
        let desk: Arc<dyn transport::Desk> = Arc::new(Open { routes: routes(door.clone()), door: Arc::new(door) });
        return Arc::new(move |_| desk.clone());
    }
    Arc::new(move |about| Arc::new(Desk { door: door.clone(), peer: about.get().cloned(), last: Mutex::default() }))
}

/// For anybody.
struct Open {
    door: Arc<Door>,
    routes: Router,
}

impl transport::Desk for Open {
    fn short(&self, _: &HeaderMap) -> Option<Arc<Door>> {
        Some(self.door.clone())
    }

    fn routes(&self, _: &HeaderMap) -> Router {
        self.routes.clone()
    }
}

/// For whoever is at one connection.
struct Desk {
    door: Door,
    peer: Option<Peer>,
    last: Mutex<Option<Place>>,
}

/// The door of whoever showed something.
struct Place {
    shown: Kept,
    caller: Arc<Caller>,
    door: Arc<Door>,
    /// Most connections ask for nothing but what goes the short way.
    routes: Option<Router>,
}

impl Desk {
    fn at<T>(&self, headers: &HeaderMap, take: impl FnOnce(&mut Place) -> T) -> T {
        let shown = Shown::of(headers);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Who was not believed may be by now.
        let stays =
            |place: &Place| place.shown.is(shown) && place.caller.identity().is_some() && place.caller.lasts().is_ok();
        let place = match last.take().filter(stays) {
            Some(place) => place,
            None => self.place(shown),
        };
        take(last.insert(place))
    }

    fn place(&self, shown: Shown<'_>) -> Place {
        let guard = &self.door.guard;
        // Every connection has a peer; one without would be a stranger.
        let (caller, from) = match &self.peer {
            Some(peer) => (guard.caller(peer, shown), From::of("etcd", peer)),
            None => (guard.stranger(), From { door: "etcd", remote: None }),
        };
        let door = self.door.of(Visit::new(caller.clone(), from, guard.audit().clone()));
        Place { shown: shown.kept(), caller, door: Arc::new(door), routes: None }
    }
}

impl transport::Desk for Desk {
    fn short(&self, headers: &HeaderMap) -> Option<Arc<Door>> {
        Some(self.at(headers, |place| place.door.clone()))
    }

    fn routes(&self, headers: &HeaderMap) -> Router {
        self.at(headers, |place| place.routes.get_or_insert_with(|| routes((*place.door).clone())).clone())
    }
}
