//! Events, from the store.

use super::shelf::Shelf;
use regrow_model::key::{EVENTS, Key, Record};
use regrow_model::{Event, EventId, Ref};
use regrow_serve::wire::EventsQuery;
use regrow_serve::{AgentError, Lines};
use regrow_store::{Error, EventKind, WatchItem};
use tokio::sync::mpsc;

/// Most events of one answer, beside what follows.
const LAST_MAX: usize = 10_000;
/// Lines waiting for a slow reader.
const LINES_WAITING: usize = 256;

/// All events kept, oldest first.
pub(super) async fn all(shelf: &Shelf) -> Result<Vec<(EventId, Event)>, Error> {
    let (changes, _) = shelf.read(EVENTS).await?;
    Ok(changes.iter().filter_map(|change| read(&change.key, change.value.as_deref()?)).collect())
}

/// Reads one.
pub(super) fn read(key: &str, value: &[u8]) -> Option<(EventId, Event)> {
    match Record::from_json(&Key::parse(key)?, value).ok()? {
        Record::Event(id, event) => Some((id, *event)),
        _ => None,
    }
}

/// Tells the log of an event that this node has recorded.
pub(super) fn log(event: &Event) {
    let (object, cause) = (event.object.to_string(), event.cause.as_str());
    let kind = event.kind.to_string();
    let detail = event.detail.as_deref().map(|detail| format!(": {}", detail.trim_end())).unwrap_or_default();
    tracing::info!(cause, object, kind, "{}{detail}", event.message);
}

/// The events that a query asks for, as lines.
pub(super) async fn lines(shelf: Shelf, query: EventsQuery) -> Result<Lines, AgentError> {
    let unavailable = |error: Error| AgentError::Unavailable(error.to_string());
    let object: Option<Ref> = match &query.object {
        Some(text) => Some(text.parse().map_err(|error| AgentError::Refused(format!("{error}")))?),
        None => None,
    };
    let cause = query.cause.clone();
    let wanted = move |event: &Event| {
        object.as_ref().is_none_or(|object| event.object == *object)
            && cause.as_ref().is_none_or(|cause| event.cause.as_str() == cause)
    };
    // The watch begins before the read, so that nothing falls between them; what both have is sent once.
    let watch = if query.follow { Some(shelf.watch(EVENTS).await.map_err(unavailable)?) } else { None };
    let mut events = all(&shelf).await.map_err(unavailable)?;
    events.retain(|(_, event)| wanted(event));
    let last = query.last.unwrap_or(100).min(LAST_MAX);
    events.drain(..events.len().saturating_sub(last));
    let (sender, lines) = mpsc::channel(LINES_WAITING);
    tokio::spawn(async move {
        let newest = events.last().map(|(id, _)| id.clone());
        for (_, event) in &events {
            if sender.send(line(event)).await.is_err() {
                return;
            }
        }
        let Some(mut watch) = watch else { return };
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                () = sender.closed() => return,
            };
            let Some(Ok(item)) = item else { return };
            let WatchItem::Events { events, .. } = item else { continue };
            for change in events.iter().filter(|change| change.kind == EventKind::Put) {
                let Some((id, event)) =
                    std::str::from_utf8(&change.kv.key).ok().and_then(|key| read(key, &change.kv.value))
                else {
                    continue;
                };
                let is_new = newest.as_ref().is_none_or(|newest| id > *newest);
                if is_new && wanted(&event) && sender.send(line(&event)).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(lines)
}

fn line(event: &Event) -> String {
    serde_json::to_string(event).expect("model types always serialise")
}
