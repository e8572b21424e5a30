//! The types that travel between the command line and the agent.

use axum::http::StatusCode;
use regrow_control::apply::Difference;
use regrow_model::access::Grant;
use regrow_model::{CauseId, Held, Name, Plan, Revision, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest request body: a spec with its template sources.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// A spec with the texts that it names, as the command line read them from disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The folder that relative paths start from, absolute.
    pub root: String,
    /// The spec's files: name and text.
    pub files: Vec<(String, String)>,
    /// Texts of template sources, by the name that the spec gives them.
    pub sources: BTreeMap<String, String>,
}

/// What applying would do, or did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Object by object.
    pub differences: Vec<Difference>,
    /// What would be done first (for a plan).
    #[serde(default)]
    pub actions: Vec<PlannedAction>,
    /// What would be held back (for a plan).
    #[serde(default)]
    pub held: Vec<HeldBack>,
    /// The revision that has it; `None` for a plan, or when everything was so already.
    pub revision: Option<Revision>,
    /// The chain that it began; `None` for a plan.
    pub cause: Option<CauseId>,
}

/// One action of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedAction {
    /// What it is about, as `kind/name`.
    pub object: String,
    /// What would be done: `start`, `install`, `record` …
    pub verb: String,
    /// Why.
    pub why: String,
}

/// Something that a rule would hold back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// What it is about, as `kind/name`.
    pub object: String,
    /// What would be done.
    pub what: String,
    /// Why not now.
    pub why: String,
}

impl Applied {
    /// The answer to a plan.
    pub fn planned(differences: Vec<Difference>, plan: Plan) -> Applied {
        let actions = plan.actions.into_iter().map(|planned| PlannedAction {
            object: planned.object.to_string(),
            verb: planned.action.verb().to_owned(),
            why: planned.why,
        });
        let held = plan.held.into_iter().map(|held: Held| HeldBack {
            object: held.object.to_string(),
            what: held.what,
            why: held.why,
        });
        let (actions, held) = (actions.collect(), held.collect());
        Applied { differences, actions, held, revision: None, cause: None }
    }
}

/// A new size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// How many.
    pub size: u32,
}

/// A pause of planned changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Why, for whoever finds it at night.
    pub why: String,
    /// For how long, in seconds; until resumed without it.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsQuery {
    /// At most so many of the newest. Default 100, at most 10,000.
    pub last: Option<usize>,
    /// Go on with new ones as they come.
    pub follow: bool,
    /// Only about this object, as `kind/name`.
    pub object: Option<String>,
    /// Only of this chain.
    pub cause: Option<String>,
}

/// Which output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsQuery {
    /// At most so many of the newest lines. Default 100, at most 100,000.
    pub tail: Option<usize>,
    /// Go on with new ones as they come.
    pub follow: bool,
}

/// What a template renders to now, beside what is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenderedTemplate {
    /// Its files.
    pub files: Vec<RenderedFile>,
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// Where it goes.
    pub destination: String,
    /// What it would be.
    pub content: String,
    /// What is there; `None` when nothing is.
    pub current: Option<String>,
}

/// A token that is to be made.
// Not `deny_unknown_fields`: it does not go with `flatten`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Its name.
    pub id: Name,
    /// What its holder may do.
    #[serde(flatten)]
    pub grant: Grant,
    /// What it is for.
    #[serde(default)]
    pub note: String,
    /// Seconds that it is good for; for ever without it.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Serialize, Deserialize)]
pub struct Made {
    /// The secret: told here, and kept nowhere.
    pub token: String,
    /// All else of it.
    #[serde(flatten)]
    pub line: TokenLine,
}

/// Whether a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// It is.
    Good,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// A token as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLine {
    /// Its name.
    pub id: Name,
    /// Whether it is good.
    pub state: TokenState,
    /// What its holder may do.
    #[serde(flatten)]
    pub grant: Grant,
    /// What it is for.
    #[serde(default)]
    pub note: String,
    /// When it was made.
    pub created: Time,
    /// By whom.
    pub created_by: String,
    /// From when on it is refused.
    #[serde(default)]
    pub expires: Option<Time>,
    /// When it was taken back.
    #[serde(default)]
    pub revoked: Option<Time>,
    /// By whom.
    #[serde(default)]
    pub revoked_by: Option<String>,
}

/// Which lines of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// At most so many of the newest. Default 100, at most 10,000.
    pub last: Option<usize>,
    /// Go on with new ones as they come.
    pub follow: bool,
    /// Only of whom: `token/ci`, `certificate/ann`, `owner`, `anonymous`.
    pub who: Option<String>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// What sort.
    pub kind: RefusalKind,
    /// What happened, to what, why, and what to do next.
    pub error: String,
}

/// Sorts of refusals: each has its HTTP status and its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request makes no sense: 400.
    Usage,
    /// It makes sense and is refused by a rule: 409.
    Refused,
    /// There is no such object: 404.
    NotFound,
    /// It cannot be done now: 503.
    Unavailable,
    /// Nobody knows who asks: 401.
    Unauthenticated,
    /// Whoever asks may not: 403.
    Denied,
}

impl RefusalKind {
    /// All of them, by their status.
    pub(crate) const ALL: [RefusalKind; 6] = [
        RefusalKind::Usage,
        RefusalKind::Unauthenticated,
        RefusalKind::Denied,
        RefusalKind::NotFound,
        RefusalKind::Refused,
        RefusalKind::Unavailable,
    ];

    pub(crate) fn status(self) -> StatusCode {
        match self {
            RefusalKind::Usage => StatusCode::BAD_REQUEST,
            RefusalKind::Refused => StatusCode::CONFLICT,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            RefusalKind::Denied => StatusCode::FORBIDDEN,
        }
    }

    /// What it means, for people.
    pub(crate) fn what(self) -> &'static str {
        match self {
            RefusalKind::Usage => "The request makes no sense.",
            RefusalKind::Refused => "It makes sense and is refused by a rule.",
            RefusalKind::NotFound => "There is no such thing.",
            RefusalKind::Unavailable => "It cannot be done now; try again later.",
            RefusalKind::Unauthenticated => "Nobody knows who asks.",
            RefusalKind::Denied => "Whoever asks may not.",
        }
    }
}
