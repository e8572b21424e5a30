//! Runs that accompany the lives of this node's instances: submitted when they are wanted, and their ends told to the loop.
//!
//! A run is submitted under a word of the life's own, so that an agent which starts anew finds the one that is there.

use super::{cluster, told};
use crate::runtime::driver::Message;
use crate::runtime::{Handle, now};
use regrow_control::features::instance::{Wanted, wanted};
use regrow_control::features::job::order::{self, OrderError, Wish};
use regrow_control::reconcile::Input;
use regrow_jobs::{Error, Queue, Submission, tend};
use regrow_model::run::{Order, State};
use regrow_model::{Observation, RunId, Time, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Time between two looks at what is wanted: a boot waits for it.
const LOOK: Duration = Duration::from_millis(250);

/// Follows what instances want, until nobody listens any more.
pub(crate) async fn follow(handle: Handle, queue: Arc<dyn Queue>, inbox: mpsc::Sender<Message>) {
    let mut submitted: BTreeMap<String, RunId> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let wanted = handle.look(|reconciler| {
            let view = reconciler.view();
            if has_hooks(view) { wanted(view, reconciler.node()) } else { Vec::new() }
        });
        let Ok(wanted) = wanted.await else { return };
        let words: BTreeSet<String> = wanted.iter().map(Wanted::key).collect();
        let (kept, unwanted) = submitted.into_iter().partition(|(word, _)| words.contains(word));
        submitted = kept;
        give_up(&*queue, unwanted).await;
        for one in wanted {
            let word = one.key();
            let ended = match submitted.get(&word) {
                Some(id) => ended(&*queue, id, &one).await,
                None => match submit(&handle, &*queue, &one).await {
                    Ok(Ok(id)) => {
                        submitted.insert(word, id);
                        Ok(None)
                    }
                    Ok(Err(refused)) => Ok(Some((false, refused))),
                    Err(error) => Err(error),
                },
            };
            match ended {
                Ok(Some((succeeded, why))) => {
                    let Wanted { instance, incarnation, moment, .. } = one;
                    let seen = Observation::Hooked { instance, incarnation, moment, succeeded, why };
                    if inbox.send(Message::Input(Input::Seen(seen))).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(error = told(&error), "the queue cannot be asked for a hook's run"),
            }
        }
    }
}

/// Ends what instances no longer wait for, because their lives have ended or the spec asks for it no more.
async fn give_up(queue: &dyn Queue, unwanted: BTreeMap<String, RunId>) {
    for (word, id) in unwanted {
        // One that has ended stays as it ended, and the time of one that cannot be reached is bounded by its job.
        if let Err(error) = queue.cancel(id, word).await {
            tracing::debug!(error = told(&error), "a hook's run that nobody waits for is not cancelled");
        }
    }
}

/// Most clusters have none, and are looked at all the same.
fn has_hooks(view: &View) -> bool {
    let of = |hooks: &regrow_model::spec::Hooks| hooks.on_boot.is_some() || hooks.before_stop.is_some();
    let good = view.group_status.values().filter_map(|status| status.good.as_ref());
    view.groups.values().any(|group| of(&group.spec.hooks)) || good.into_iter().any(|good| of(&good.group.spec.hooks))
}

/// Accepts the run that is wanted. `Err` inside: a sentence, why it never will be.
async fn submit(handle: &Handle, queue: &dyn Queue, wanted: &Wanted) -> Result<Result<RunId, String>, Error> {
    let wish = Wish {
        parameters: wanted.parameters.clone(),
        deadline: Some(wanted.until),
        key: Some(wanted.key()),
        ..Wish::default()
    };
    let (job, by) = (wanted.job.clone(), format!("hook/{}", wanted.instance));
    let asked = wish.clone();
    let looked = handle.look(move |reconciler| {
        let view = reconciler.view();
        (order::order(view, &job, &asked, &by, now()), cluster::dead(view))
    });
    let (order, dead): (Result<Order, OrderError>, BTreeSet<String>) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let order = match order {
        Ok(order) => order,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let at: Time = now();
    let run = tend::waiting(order, at, at, &dead);
    let id = run.id.clone();
    let ids = queue.submit(vec![Submission { run, key: wish.key }]).await?;
    Ok(Ok(ids.into_iter().next().unwrap_or(id)))
}

/// How a run has ended, if it has; one that takes too long is cancelled.
async fn ended(queue: &dyn Queue, id: &RunId, wanted: &Wanted) -> Result<Option<(bool, String)>, Error> {
    let Some(run) = queue.get(id.clone()).await? else {
        return Ok(Some((false, format!("run {id} is not known any more"))));
    };
    if run.state.is_final() {
        let why = if run.why.is_empty() { String::new() } else { format!(": {}", run.why) };
        return Ok(Some((run.state == State::Succeeded, format!("run {id} has {}{why}", word(run.state)))));
    }
    if now() > wanted.until {
        queue.cancel(id.clone(), format!("hook/{}, which waits no longer", wanted.instance)).await?;
        return Ok(Some((false, format!("run {id} has not ended in time"))));
    }
    Ok(None)
}

/// A final state behind `has`.
fn word(state: State) -> &'static str {
    match state {
        State::Cancelled => "been cancelled",
        State::Lost => "been lost",
        State::Skipped => "been skipped",
        State::TimedOut => "timed out",
        state => state.as_str(),
    }
}
