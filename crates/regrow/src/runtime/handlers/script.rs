//! A handler as the settings name it.

use regrow_gossip::{Choice, ChoiceError, Event};

/// Shape: `SCRIPT`, for everything, or `CHOICES=SCRIPT`, as `member-join,member-failed=/etc/serf/members.sh`. The
/// script is a line for `/bin/sh`. Source: Serf `ParseEventScript`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handler {
    choices: Vec<Choice>,
    pub(super) line: String,
}

impl Handler {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Handler, ChoiceError> {
        let (choices, line) = text.split_once('=').unwrap_or(("", text));
        Ok(Handler { choices: Choice::parse_list(choices)?, line: line.to_owned() })
    }

    pub(super) fn wants(&self, event: &Event) -> bool {
        self.choices.iter().any(|choice| choice.takes(event))
    }

    pub(super) fn wants_kind(&self, (kind, name): (&str, &str)) -> bool {
        self.choices.iter().any(|choice| choice.wants(kind, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows both forms, and that a choice that is none is refused.
    #[test]
    fn forms() {
        let all = Handler::parse("/etc/x.sh -a").expect("for all");
        assert!(all.line == "/etc/x.sh -a" && all.wants_kind(("query", "load")));
        let some = Handler::parse("user:deploy,member-failed=/etc/x.sh --to=1").expect("for some");
        assert!(some.line == "/etc/x.sh --to=1" && some.wants_kind(("user", "deploy")));
        assert!(!some.wants_kind(("user", "other")) && some.wants_kind(("member-failed", "")));
        assert!(Handler::parse("nothing=/etc/x.sh").is_err());
    }
}
