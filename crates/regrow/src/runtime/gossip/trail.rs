//! What became of each member and why, for `explain node/NAME`: the newest happenings about it.

use regrow_gossip::{Event, Evidence};
use regrow_model::Time;
use regrow_serve::membership::Happening;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;
use tokio::sync::broadcast;

/// Happenings kept about one member.
const KEPT_PER_MEMBER: usize = 64;
/// Members that something is kept about; the one that was silent for longest goes first.
const MEMBERS_MAX: usize = 4_096;

/// When, and what.
type Line = (Time, String);

/// The newest happenings by member. A cheap clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    kept: Arc<Mutex<BTreeMap<String, VecDeque<Line>>>>,
}

impl Trail {
    /// Keeps what happens, until nothing can any more.
    pub(super) async fn follow(self, mut happenings: broadcast::Receiver<Arc<Happening>>) {
        loop {
            match happenings.recv().await {
                Ok(happening) => self.keep(&happening),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Keeps one.
    pub(crate) fn keep(&self, happening: &Happening) {
        let Some((name, text)) = about(&happening.event) else { return };
        let Ok(mut kept) = self.kept.lock() else { return };
        if !kept.contains_key(&name) && kept.len() >= MEMBERS_MAX {
            let oldest =
                kept.iter().min_by_key(|(_, lines)| lines.back().map(|(at, _)| *at)).map(|(name, _)| name.clone());
            oldest.map(|name| kept.remove(&name));
        }
        let lines = kept.entry(name).or_default();
        if lines.len() >= KEPT_PER_MEMBER {
            lines.pop_front();
        }
        lines.push_back((at(happening), text));
    }

    /// What is kept about a member, oldest first.
    pub(crate) fn of(&self, name: &str) -> Vec<Line> {
        let kept = self.kept.lock();
        kept.ok().and_then(|kept| kept.get(name).map(|lines| lines.iter().cloned().collect())).unwrap_or_default()
    }
}

fn at(happening: &Happening) -> Time {
    let since = happening.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Why a member was suspected or declared dead, for people.
pub(crate) fn reason(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::NoAck => "no answer came, direct, through others or over TCP",
        Evidence::Refused => "it refused a TCP connection: its process is gone",
        Evidence::RefusedTwice => "two members had their TCP connections refused: its process is gone",
        Evidence::NotRefuted => "the suspicion was not refuted in time",
        Evidence::Told => "another member said so",
        Evidence::AddressTaken => "another member has taken its address",
    }
}

fn about(event: &Event) -> Option<(String, String)> {
    Some(match event {
        Event::Member { change, member, by, evidence } => {
            let by = by.as_ref().map(|by| format!(", says {by}")).unwrap_or_default();
            let why = evidence.map(|evidence| format!(": {}", reason(evidence))).unwrap_or_default();
            (member.name.clone(), format!("{} at {}{by}{why}", change.as_str(), member.address))
        }
        Event::Suspected { name, by, evidence } => (name.clone(), format!("suspected by {by}: {}", reason(*evidence))),
        Event::Refuted { name } => (name.clone(), "has refuted the suspicion: it lives".to_owned()),
        Event::ProbeFailed { name, asked, nacks, refused } => {
            let refused = if *refused { ", TCP refused" } else { "" };
            (
                name.clone(),
                format!(
                    "a probe from here failed: {asked} members were asked, {nacks} of them got no answer either{refused}"
                ),
            )
        }
        Event::UdpBlocked { name } => (name.clone(), "UDP does not get through though TCP does".to_owned()),
        Event::Quarantined { name, returns, .. } => {
            (name.clone(), format!("in quarantine: it has come back {returns} times after failure"))
        }
        Event::Released { name } => (name.clone(), "its quarantine is over".to_owned()),
        Event::NameClaimed { name, known, claimed } => {
            (name.clone(), format!("its name is at {known} and is claimed at {claimed}"))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that both bounds hold and that the newest stays.
    #[test]
    fn bounded() {
        let trail = Trail::default();
        let keep = |name: String, second: u64| {
            let at = UNIX_EPOCH + std::time::Duration::from_secs(second);
            trail.keep(&Happening { at, event: Event::Refuted { name } });
        };
        (0..100).for_each(|second| keep("a".to_owned(), second));
        assert_eq!(trail.of("a").len(), KEPT_PER_MEMBER);
        (0..MEMBERS_MAX as u64).for_each(|number| keep(format!("n{number}"), 1_000 + number));
        assert!(trail.of("a").is_empty(), "it was silent for longest");
        assert_eq!(trail.of(&format!("n{}", MEMBERS_MAX - 1)).len(), 1);
    }
}
