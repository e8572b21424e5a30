//! What a request asks for, as the rules of access know it.

use super::request::{KeyVerb, Request};
use crate::access::{Refused, What};
use regrow_control::access::{Access, Asked};
use regrow_model::Kind;

/// What it asks; nothing for what it takes to be let in, and to end what was begun.
pub(super) fn asked(request: &Request) -> Option<Asked<'static>> {
    Some(match request {
        Request::Handshake { .. } | Request::Auth { .. } | Request::Stop { .. } | Request::Unknown => return None,
        Request::Members { .. }
        | Request::Stream { .. }
        | Request::Monitor { .. }
        | Request::Stats
        | Request::Coordinate { .. } => Asked::Objects(Access::Read, Kind::Node),
        Request::Event { .. }
        | Request::Join { .. }
        | Request::Tags { .. }
        | Request::Query(_)
        | Request::Respond { .. } => Asked::Objects(Access::Write, Kind::Node),
        Request::Leave => Asked::Members("let this agent leave"),
        Request::ForceLeave { .. } => Asked::Members("force members to leave"),
        Request::Key { .. } => Asked::Members("read or change the keys of gossip"),
    })
}

/// Whether it changes something.
pub(super) fn is_change(asked: &Asked<'_>) -> bool {
    matches!(asked, Asked::Objects(Access::Write, _) | Asked::Members(_))
}

/// Whether clients wait for a body behind the header, whatever the error is; only behind [`UNAUTHENTICATED`] they do not.
pub(super) fn has_body(request: &Request) -> bool {
    matches!(
        request,
        Request::Members { .. }
            | Request::Join { .. }
            | Request::Stats
            | Request::Coordinate { .. }
            | Request::Key { .. }
    )
}

/// Serf's text for who has shown nothing yet.
pub(super) const UNAUTHENTICATED: &str = "Authentication required";

/// The request as the audit log has it: never a payload or a key.
pub(super) fn what(request: &Request) -> What {
    let named = |verb: &str, name: &str| What::Named(format!("{verb} {}", name.chars().take(128).collect::<String>()));
    match request {
        Request::Event { name, .. } => named("event", name),
        Request::ForceLeave { node, .. } => named("force-leave", node),
        Request::Join { existing, .. } => named("join", &existing.join(",")),
        Request::Query(query) => named("query", &query.name),
        Request::Respond { .. } => What::Named("respond".to_owned()),
        Request::Tags { set, delete } => {
            let names: Vec<&str> = set.keys().map(String::as_str).chain(delete.iter().map(String::as_str)).collect();
            named("tags", &names.join(","))
        }
        Request::Leave => What::Named("leave".to_owned()),
        Request::Key { op, .. } => What::Named(
            match op {
                KeyVerb::Install => "install-key",
                KeyVerb::Use => "use-key",
                KeyVerb::Remove => "remove-key",
                KeyVerb::List => "list-keys",
            }
            .to_owned(),
        ),
        Request::Members { .. } => What::Named("members".to_owned()),
        Request::Stream { .. } => What::Named("stream".to_owned()),
        Request::Monitor { .. } => What::Named("monitor".to_owned()),
        Request::Stats => What::Named("stats".to_owned()),
        Request::Coordinate { .. } => What::Named("get-coordinate".to_owned()),
        Request::Handshake { .. } | Request::Auth { .. } | Request::Stop { .. } | Request::Unknown => {
            What::Named(String::new())
        }
    }
}

/// A refusal as Serf says it, so far as it knows one.
pub(super) fn text(why: &Refused) -> String {
    match why {
        Refused::Anonymous(_) => UNAUTHENTICATED.to_owned(),
        Refused::Credentials(why) => format!("Invalid authentication token: {why}"),
        Refused::Denied(why) => format!("Permission denied: {why}"),
    }
}
