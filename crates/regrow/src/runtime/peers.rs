//! Gossip and the loop: what gossip sees becomes an input of the reconciler, and whom the store lists is met by gossip.

use super::driver::Message;
use super::gossip::{Club, Trail, reason};
use super::{Handle, clock_text, now};
use regrow_control::reconcile::Input;
use regrow_gossip::{Event, Member, Status};
use regrow_model::{Name, Peer, Peers, Standing, Time, limits};
use regrow_serve::membership::{Happening, Membership};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// Members of the store that are tried in one go.
const MET_AT_ONCE: usize = 16;
/// First wait between two looks into the store, of a node that is alone; it doubles.
const LOOK_FIRST: Duration = Duration::from_millis(500);
/// Longest such wait.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// Tells the loop of the members, each time that something about one has changed, until nobody listens any more.
///
/// `under`: what the keys that list members begin with.
pub(super) async fn follow(club: Club, under: Option<String>, inbox: mpsc::Sender<Message>) {
    // Before the first look, so that nothing is missed.
    let mut happenings = club.happenings();
    let mut seen = Seen { under, ..Seen::default() };
    let mut told = None;
    loop {
        let Ok(roll) = club.roll().await else { return };
        let peers = seen.peers(roll.members);
        if told.as_ref() != Some(&peers) {
            told = Some(peers.clone());
            if inbox.send(Message::Input(Input::Members(peers))).await.is_err() {
                return;
            }
        }
        if !seen.wait(&mut happenings).await {
            return;
        }
    }
}

/// What this node has seen of the members so far.
#[derive(Default)]
struct Seen {
    under: Option<String>,
    /// Since when each stands as it does, and why.
    standing: BTreeMap<Name, (Standing, Time, String)>,
    why: BTreeMap<Name, String>,
    trail: Trail,
}

impl Seen {
    /// Waits for something that matters, and takes in all that has happened with it. False when nothing can happen any
    /// more.
    async fn wait(&mut self, happenings: &mut broadcast::Receiver<Arc<Happening>>) -> bool {
        let mut matters = false;
        while !matters {
            matters = match happenings.recv().await {
                Ok(happening) => self.take(&happening),
                Err(broadcast::error::RecvError::Lagged(_)) => true,
                Err(broadcast::error::RecvError::Closed) => return false,
            };
        }
        while let Ok(happening) = happenings.try_recv() {
            self.take(&happening);
        }
        true
    }

    fn take(&mut self, happening: &Happening) -> bool {
        self.trail.keep(happening);
        match &happening.event {
            Event::Member { member, by, evidence, .. } => {
                if let Ok(name) = Name::new(&member.name) {
                    let told = by.as_ref().map(|by| format!("{by} has told so"));
                    let why = evidence.map(|evidence| reason(evidence).to_owned());
                    self.why.insert(name, told.or(why).unwrap_or_default());
                }
                true
            }
            Event::Suspected { .. } | Event::Refuted { .. } | Event::Quarantined { .. } | Event::Released { .. } => {
                true
            }
            Event::Left => true,
            _ => false,
        }
    }

    fn peers(&mut self, members: Vec<Member>) -> Peers {
        let mut by_name = BTreeMap::new();
        for member in members {
            let Ok(name) = Name::new(&member.name) else { continue };
            let standing = match member.status {
                Status::Alive | Status::Leaving => Standing::Alive,
                Status::Left => Standing::Left,
                Status::Failed => Standing::Failed,
            };
            let known = self.standing.entry(name.clone()).or_insert_with(|| (standing, now(), String::new()));
            if known.0 != standing {
                *known = (standing, now(), String::new());
            }
            if known.2.is_empty() {
                known.2 = match self.why.get(&name).filter(|why| !why.is_empty()) {
                    Some(why) => why.clone(),
                    None if standing == Standing::Failed => "it was known as dead when it was met".to_owned(),
                    None => "it has said so".to_owned(),
                };
            }
            // What was seen of the living is of no interest, and changes all the time.
            let trail = if standing == Standing::Failed { self.trail.of(name.as_str()) } else { Vec::new() };
            let newest = trail.len().saturating_sub(limits::PEER_TRAIL_LINES_MAX);
            let peer = Peer {
                standing,
                suspect: member.suspect,
                quarantined: member.quarantined_until.is_some(),
                incarnation: member.incarnation,
                address: member.address.to_string(),
                tags: member.tags.into_iter().collect(),
                since: known.1,
                why: if standing == Standing::Alive { String::new() } else { known.2.clone() },
                trail: trail[newest..].iter().map(|(at, what)| format!("{}  {what}", clock_text(*at))).collect(),
            };
            by_name.insert(name, peer);
        }
        self.standing.retain(|name, _| by_name.contains_key(name));
        self.why.retain(|name, _| by_name.contains_key(name));
        Peers { by_name, listed_under: self.under.clone() }
    }
}

/// Meets members that the store lists, for as long as this node is alone: one that was given only the store's address
/// finds the others so. One that has left is not brought back.
pub(super) async fn meet(club: Club, agent: Handle) {
    let mut wait = LOOK_FIRST;
    loop {
        let Ok(roll) = club.roll().await else { return };
        let lives = |member: &Member| member.status == Status::Alive;
        let here = roll.members.iter().any(|member| member.name == roll.name && lives(member));
        let alone = !roll.members.iter().any(|member| member.name != roll.name && lives(member));
        if here && alone {
            let own = roll.members.iter().find(|member| member.name == roll.name).map(|own| own.address.to_string());
            let Ok(listed) = agent.living_members().await else { return };
            let mut others: Vec<String> = listed.into_iter().filter(|address| Some(address) != own.as_ref()).collect();
            others.truncate(MET_AT_ONCE);
            if !others.is_empty() {
                match club.join(others, true).await {
                    Ok(joining) => {
                        for (address, why) in joining.failed {
                            tracing::info!("the store lists a member at {address} that was not met: {why}");
                        }
                    }
                    Err(_) => return,
                }
            }
            wait = (wait * 2).min(LOOK_MAX);
        } else {
            wait = LOOK_FIRST * 4;
        }
        tokio::time::sleep(wait).await;
    }
}
