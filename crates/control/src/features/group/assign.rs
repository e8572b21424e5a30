//! The next life of a slot: the assignment in full.

use super::place::Place;
use super::substitute::{Given, environment, substitute};
use super::target::Target;
use regrow_model::desired::{Assignment, Goal};
use regrow_model::observed::{Instance, WorldErrorKind};
use regrow_model::process::Process;
use regrow_model::spec::{Backoff, Ports};
use regrow_model::{CauseId, Digest, InstanceId, Time};
use std::path::Path;
use std::time::Duration;

/// What a slot's next life takes over.
pub(super) struct Life {
    pub(super) incarnation: u64,
    pub(super) crashes: u32,
    pub(super) not_before: Time,
    pub(super) cause: CauseId,
}

/// The assignment of a slot at a place.
pub(super) fn assignment(target: &Target<'_>, id: &InstanceId, place: Place, life: Life, now: Time) -> Assignment {
    Assignment {
        process: process(target, id, &place),
        node: place.node,
        incarnation: life.incarnation,
        goal: Goal::Run,
        version: target.version,
        address: place.address,
        port: place.port,
        not_before: life.not_before,
        crashes: life.crashes,
        cause: life.cause,
        at: now,
    }
}

/// The process of a slot: everything looked up, nothing left to decide.
fn process(target: &Target<'_>, id: &InstanceId, place: &Place) -> Process {
    let group = &target.group;
    let spec = &group.spec;
    let given: Given = [
        ("PORT", place.port.to_string()),
        ("ADDRESS", place.address.clone()),
        ("INSTANCE", id.to_string()),
        ("GROUP", id.group.to_string()),
        ("SLOT", id.slot.to_string()),
    ];
    let mut environment = environment(spec, &given);
    let lookup = |name: &str| environment.get(name).cloned();
    let command = spec.command.iter().map(|word| substitute(word, lookup)).collect();
    environment.insert("REGROW_NODE".to_owned(), place.node.to_string());
    let directory = match &spec.directory {
        Some(directory) => Path::new(&group.root).join(directory).to_string_lossy().into_owned(),
        None => group.root.clone(),
    };
    Process {
        command,
        directory,
        environment,
        user: spec.user.clone(),
        limits: spec.limits.clone(),
        logs: (&spec.logs).into(),
    }
}

/// How long the restart after the `crashes`th end in a row waits: the first not at all, then `first`, doubled each
/// time up to `max`, each less up to a quarter. The jitter comes from the slot and its life, so that a plan made twice
/// is the same plan.
pub(super) fn wait(backoff: &Backoff, crashes: u32, id: &InstanceId, incarnation: u64) -> Duration {
    let Some(doubled) = crashes.checked_sub(2) else { return Duration::ZERO };
    let wait = backoff.first.0.saturating_mul(2u32.saturating_pow(doubled)).min(backoff.max.0);
    let drawn = Digest::of([id.to_string().as_bytes(), &incarnation.to_le_bytes()]).number() % 1_000;
    wait - wait / 4 * u32::try_from(drawn).unwrap_or_default() / 1_000
}

/// What an end means for the next life.
pub(super) struct End {
    /// Ends in a row before the instance was healthy for `backoff.reset`; the one that is looked at is counted.
    pub(super) crashes: u32,
    /// Its drawn port is somebody else's: another is needed.
    pub(super) port_refused: bool,
}

/// Judges the end of a life.
///
/// A port that was drawn and turned out to be taken is our bad luck, not the version's fault, and is not counted: the
/// next one is tried at once. It is counted where the draw starts again from the first port, so that a range with no
/// free port does not spin.
pub(super) fn end(seen: &Instance, assignment: &Assignment, ports: Ports) -> End {
    let in_use = seen.error.as_ref().is_some_and(|error| error.kind == WorldErrorKind::PortInUse);
    let port_refused = in_use && ports.fixed().is_none();
    let counted = !port_refused || assignment.port >= ports.last;
    End { crashes: assignment.crashes.saturating_add(counted.into()), port_refused }
}
