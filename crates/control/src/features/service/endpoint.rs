//! Writing endpoints: never without their service's index.

use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{Endpoint, Service};
use regrow_model::{CauseId, InstanceId, Name, Time};

/// Writes an endpoint and its service's index.
pub(crate) fn put(changes: &mut Vec<Change>, service: &Name, id: &InstanceId, endpoint: Endpoint, now: Time) {
    let cause = endpoint.cause.clone();
    changes.push(Change::Put(Record::Endpoint(service.clone(), id.clone(), Box::new(endpoint))));
    changes.push(index(service, &cause, now));
}

/// Removes an endpoint and writes its service's index.
pub(crate) fn delete(changes: &mut Vec<Change>, service: &Name, id: &InstanceId, cause: &CauseId, now: Time) {
    changes.push(Change::Delete(Key::Endpoint(service.clone(), id.clone())));
    changes.push(index(service, cause, now));
}

/// The service's index, written anew.
pub(crate) fn index(service: &Name, cause: &CauseId, now: Time) -> Change {
    Change::Put(Record::Service(service.clone(), Service { cause: cause.clone(), at: now }))
}
