//! A happening as handlers are told of it.

use regrow_gossip::Event;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a handler is run for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Case {
    Member {
        /// `member-join` and so on.
        kind: String,
        name: String,
        /// IP only.
        address: String,
        tags: BTreeMap<String, String>,
    },
    User {
        name: String,
        ltime: u64,
        payload: Vec<u8>,
        coalesce: bool,
    },
    Query {
        id: u64,
        name: String,
        ltime: u64,
        payload: Vec<u8>,
    },
}

impl Case {
    pub(super) fn of(event: &Event) -> Option<Case> {
        Some(match event.clone() {
            Event::Member { change, member, .. } => Case::Member {
                kind: change.as_str().to_owned(),
                name: member.name,
                address: member.address.ip().to_string(),
                tags: member.tags,
            },
            Event::User { ltime, name, payload, coalesce } => Case::User { name, ltime, payload, coalesce },
            Event::Query { id, ltime, name, payload, .. } => Case::Query { id, name, ltime, payload },
            _ => return None,
        })
    }

    /// Whether it outlives a restart.
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self, Case::Query { .. })
    }

    /// Its sort and name, as choices see them.
    pub(super) fn kind(&self) -> (&str, &str) {
        match self {
            Case::Member { kind, .. } => (kind, ""),
            Case::User { name, .. } => ("user", name),
            Case::Query { name, .. } => ("query", name),
        }
    }

    /// Cases with the same are handled one after the other.
    pub(super) fn order(&self) -> String {
        match self {
            Case::Member { name, .. } => format!("member {name}"),
            Case::User { .. } => "user".to_owned(),
            Case::Query { id, .. } => format!("query {id}"),
        }
    }

    /// What is put into the environment beside who we are. Source: Serf `invokeEventScript`.
    pub(super) fn environment(&self, own: &str, tags: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let role = tags.get("role").cloned().unwrap_or_default();
        let (kind, _) = self.kind();
        let mut all = vec![
            ("SERF_EVENT".to_owned(), kind.to_owned()),
            ("SERF_SELF_NAME".to_owned(), own.to_owned()),
            ("SERF_SELF_ROLE".to_owned(), role),
        ];
        for (name, value) in tags {
            let name = name.to_uppercase();
            let clean = |c: char| if c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_' { c } else { '_' };
            all.push((format!("SERF_TAG_{}", name.chars().map(clean).collect::<String>()), value.clone()));
        }
        match self {
            Case::Member { .. } => {}
            Case::User { name, ltime, .. } => {
                all.push(("SERF_USER_EVENT".to_owned(), name.clone()));
                all.push(("SERF_USER_LTIME".to_owned(), ltime.to_string()));
            }
            Case::Query { name, ltime, .. } => {
                all.push(("SERF_QUERY_NAME".to_owned(), name.clone()));
                all.push(("SERF_QUERY_LTIME".to_owned(), ltime.to_string()));
            }
        }
        // A variable with a zero byte cannot be handed over at all.
        all.retain(|(_, value)| !value.contains('\0'));
        all
    }

    /// What it reads. Source: Serf `memberEventStdin`, `streamPayload`.
    pub(super) fn input(&self) -> Vec<u8> {
        match self {
            Case::Member { name, address, tags, .. } => {
                let clean = |text: &str| text.replace('\t', "\\t").replace('\n', "\\n");
                let role = tags.get("role").map(String::as_str).unwrap_or_default();
                let pairs: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let (name, role, pairs) = (clean(name), clean(role), clean(&pairs.join(",")));
                format!("{name}\t{address}\t{role}\t{pairs}\n").into_bytes()
            }
            Case::User { payload, .. } | Case::Query { payload, .. } => {
                let mut input = payload.clone();
                if input.last().is_some_and(|last| *last != b'\n') {
                    input.push(b'\n');
                }
                input
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows environment and input of each sort, with what must be cleaned.
    #[test]
    fn as_serf_tells_it() {
        let text = |text: &str| text.to_owned();
        let tags: BTreeMap<_, _> =
            [("role", "web"), ("a-z.é", "x\ty")].map(|(name, value)| (text(name), text(value))).into();
        let member = Case::Member {
            kind: text("member-join"),
            name: text("n\n1"),
            address: text("10.0.0.1"),
            tags: tags.clone(),
        };
        assert_eq!(member.input(), b"n\\n1\t10.0.0.1\tweb\ta-z.\xc3\xa9=x\\ty,role=web\n");
        let environment = |case: &Case| -> Vec<String> {
            case.environment("me", &tags).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        let own = ["SERF_SELF_NAME=me", "SERF_SELF_ROLE=web", "SERF_TAG_A_Z__=x\ty", "SERF_TAG_ROLE=web"];
        assert_eq!(environment(&member)[0], "SERF_EVENT=member-join");
        assert_eq!(environment(&member)[1..], own);
        let user = Case::User { name: text("deploy"), ltime: 7, payload: b"1.2".to_vec(), coalesce: false };
        assert_eq!(user.input(), b"1.2\n");
        assert_eq!(environment(&user)[5..], ["SERF_USER_EVENT=deploy", "SERF_USER_LTIME=7"]);
        let query = Case::Query { id: 1, name: text("load"), ltime: 9, payload: Vec::new() };
        assert_eq!(query.input(), b"");
        assert_eq!(environment(&query)[5..], ["SERF_QUERY_NAME=load", "SERF_QUERY_LTIME=9"]);
        let whole = Case::User { name: text("x"), ltime: 1, payload: b"a\n".to_vec(), coalesce: false };
        assert_eq!(whole.input(), b"a\n");
    }
}
