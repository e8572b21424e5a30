//! Which version a group is to be of.

use regrow_model::observed::{self, Bad};
use regrow_model::{CauseId, Digest, desired};
use std::borrow::Cow;

/// The version that instances are to be of, and the group that says what it is.
pub(super) struct Target<'a> {
    /// What the version says, with size, order and the rules of change of the newest spec.
    pub(super) group: Cow<'a, desired::Group>,
    pub(super) version: Digest,
    /// The change that asked for it; the failure, after a return.
    pub(super) cause: &'a CauseId,
    /// The newest version failed before, and the last good one is the target instead.
    pub(super) refused: Option<&'a Bad>,
}

impl<'a> Target<'a> {
    pub(super) fn of(wanted: &'a desired::Group, status: Option<&'a observed::Group>) -> Target<'a> {
        let version = wanted.version();
        let good = status.and_then(|status| status.good.as_ref()).filter(|good| good.version != version);
        let bad = status.and_then(|status| status.bad.iter().find(|bad| bad.version == version));
        match (good, bad) {
            (Some(good), Some(bad)) if wanted.spec.update.rollback => Target {
                group: Cow::Owned(returned(wanted, &good.group)),
                version: good.version,
                cause: &bad.cause,
                refused: Some(bad),
            },
            _ => Target { group: Cow::Borrowed(wanted), version, cause: &wanted.cause, refused: None },
        }
    }
}

/// `good` in all that makes its version ([`desired::Group::version`]), `wanted` in everything else: a return does not
/// undo a change of size.
pub(super) fn returned(wanted: &desired::Group, good: &desired::Group) -> desired::Group {
    let mut spec = wanted.spec.clone();
    let kept = &good.spec;
    spec.provider = kept.provider;
    spec.command = kept.command.clone();
    spec.directory = kept.directory.clone();
    spec.environment = kept.environment.clone();
    spec.user = kept.user.clone();
    spec.limits = kept.limits.clone();
    spec.port = kept.port;
    spec.service = kept.service.clone();
    spec.logs = kept.logs.clone();
    desired::Group { spec, root: good.root.clone(), replace: good.replace, cause: wanted.cause.clone() }
}
