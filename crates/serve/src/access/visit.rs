//! One caller on one connection.

use std::sync::Arc;

use regrow_control::access::{Asked, Sight};

use super::{
    Audit, Caller,
    audit::{From, Outcome, What},
    caller::Refused,
};

/// Who is there, from where, and where it is written down. It is among the extensions of requests over HTTP.
#[derive(Clone)]
pub struct Visit {
    caller: Arc<Caller>,
    from: From,
    audit: Audit,
}

impl Visit {
    pub(crate) fn new(caller: Arc<Caller>, from: From, audit: Audit) -> Visit {
        Visit { caller, from, audit }
    }

    /// Who is there.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// From where.
    pub fn from(&self) -> From {
        self.from
    }

    /// Whether this may be done. `did` and `what`: how a refusal is written down.
    pub(crate) fn may(
        &self,
        asked: &Asked<'_>,
        did: &'static str,
        what: impl FnOnce() -> What,
    ) -> Result<Sight, Refused> {
        let answer = self.caller.may(asked);
        if let Err(why) = &answer {
            self.tell(did, what(), Outcome::Refused(why.to_string()));
        }
        answer
    }

    /// Writes down what was done, or refused.
    pub(crate) fn tell(&self, did: &'static str, what: What, outcome: Outcome) {
        self.audit.tell(&self.caller, self.from, did, what, outcome);
    }

    /// The same of what began a chain of causes.
    pub(crate) fn tell_of(
        &self,
        did: &'static str,
        what: What,
        cause: Option<regrow_model::CauseId>,
        outcome: Outcome,
    ) {
        self.audit.tell_of(&self.caller, self.from, did, what, cause, outcome);
    }
}
