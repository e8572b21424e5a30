//! Whether so much looks dead at once that it is more likely the eye than the body.

use crate::features::Roster;
use regrow_model::View;
use regrow_model::observed::EndpointState;
use regrow_model::spec::Freeze;

/// Why nothing alive may be destroyed now, when it may not.
///
/// Counted are endpoints whose process is seen to run and that are not leaving on purpose. One counts as failing when
/// it was healthy and is not, or has not been healthy and a check of it has failed. Instances of a version other than
/// their group's good one are not counted: that a new version fails says nothing of the network, and the freeze must not
/// hold its roll-back.
pub(super) fn frozen(view: &View, roster: &Roster<'_>, freeze: &Freeze) -> Option<String> {
    let mut live = 0u32;
    let mut failing = 0u32;
    for (group, members) in roster.groups() {
        let good = view.group_status.get(group).and_then(|status| status.good.as_ref()).map(|good| good.version);
        for member in members.iter().filter(|member| good.is_none_or(|good| good == member.assignment.version)) {
            let Some((_, endpoint)) = member.endpoint.filter(|_| member.running_since().is_some()) else { continue };
            match endpoint.state {
                EndpointState::Passing => live += 1,
                EndpointState::Failing => (live, failing) = (live + 1, failing + 1),
                EndpointState::Starting => {
                    live += 1;
                    failing += u32::from(endpoint.checks.values().any(|check| !check.passing));
                }
                EndpointState::Draining | EndpointState::Down => {}
            }
        }
    }
    let much = live >= freeze.at_least.max(1) && f64::from(failing) > freeze.share * f64::from(live);
    much.then(|| format!("{failing} of {live} live endpoints fail their checks: more likely a partition than deaths"))
}
