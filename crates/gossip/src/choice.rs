//! Which happenings somebody wants: Serf's event filters, as its handlers and its RPC streams name them.

use crate::event::Event;

/// One wish: a sort of happening, and for events and queries perhaps a name.
///
/// Shape: `*`, `member-join`, `member-leave`, `member-failed`, `member-update`, `member-reap`, `user`, `user:NAME`,
/// `query`, `query:NAME`. Source: Serf `EventFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    kind: String,
    name: Option<String>,
}

/// What is no sort of happening. The fault is the caller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no event: write *, member-join, member-leave, member-failed, member-update, member-reap, user, user:NAME, query or query:NAME"
)]
pub struct ChoiceError(pub String);

/// All sorts, by Serf's names.
const KINDS: [&str; 8] =
    ["*", "member-join", "member-leave", "member-failed", "member-update", "member-reap", "user", "query"];

impl Choice {
    /// Reads a list with commas; an empty one is `*`.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ChoiceError> {
        if text.is_empty() {
            return Ok(vec![Self { kind: "*".to_owned(), name: None }]);
        }
        text.split(',').map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, ChoiceError> {
        let (kind, name) = match text.split_once(':') {
            Some((kind @ ("user" | "query"), name)) => (kind, Some(name.to_owned())),
            _ => (text, None),
        };
        if !KINDS.contains(&kind) {
            return Err(ChoiceError(text.to_owned()));
        }
        Ok(Self { kind: kind.to_owned(), name })
    }

    /// Whether it wants a happening of this kind and name.
    pub fn wants(&self, kind: &str, name: &str) -> bool {
        self.kind == "*" || (self.kind == kind && self.name.as_ref().is_none_or(|wanted| wanted == name))
    }

    /// Whether it wants this one.
    pub fn takes(&self, event: &Event) -> bool {
        match event {
            Event::Member { change, .. } => self.wants(change.as_str(), ""),
            Event::User { name, .. } => self.wants("user", name),
            Event::Query { name, .. } => self.wants("query", name),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows each form, and that what is none is refused by its text.
    #[test]
    fn forms() {
        let wants = |list: &str, kind: &str, name: &str| {
            Choice::parse_list(list).expect(list).iter().any(|choice| choice.wants(kind, name))
        };
        assert!(wants("", "member-join", "") && wants("*", "query", "load"));
        assert!(wants("member-join,member-failed", "member-failed", ""));
        assert!(!wants("member-join,member-failed", "member-leave", ""));
        assert!(wants("user", "user", "deploy") && wants("user:deploy", "user", "deploy"));
        assert!(!wants("user:deploy", "user", "deploys") && !wants("user:deploy", "query", "deploy"));
        assert!(wants("query:load", "query", "load") && wants("query:a:b", "query", "a:b"));
        for wrong in ["joined", "member-join:x", "user,", "member-join, user"] {
            assert!(Choice::parse_list(wrong).is_err(), "{wrong}");
        }
    }
}
