//! Has runs carried out for the worker: with their secrets, and from the step where an earlier try was.

use super::Secrets;
use regrow_control::features::job::policy::End;
use regrow_effects::run::Runs;
use regrow_jobs::{BoxFuture, Output, Runner, Stop};
use regrow_model::run::{Line, Run, RunEvent, RunResult, State, StepState, Task};
use regrow_model::{Name, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(crate) struct Carrier {
    runs: Runs,
    secrets: Secrets,
    under_way: Mutex<BTreeMap<RunId, Name>>,
}

impl Carrier {
    pub(crate) fn new(runs: Runs, secrets: Secrets) -> Carrier {
        Carrier { runs, secrets, under_way: Mutex::default() }
    }

    /// Runs that are being carried out, and their jobs.
    pub(super) fn under_way(&self) -> Vec<(RunId, Name)> {
        self.table().iter().map(|(id, job)| (id.clone(), job.clone())).collect()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<RunId, Name>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, run: &Run, history: &[Line], output: Output, stop: Stop) -> End {
        match self.secrets.all(&run.order.secrets, &run.order.root).await {
            Ok(secrets) => {
                self.runs.run(run, &secrets, &done(&run.order.task, history), output, stop.halt, stop.beat).await
            }
            Err(why) => End { state: State::Failed, why, result: RunResult::default() },
        }
    }
}

/// Steps that need not be done again. A step that begins anew, in a try from the beginning, takes those behind it along.
fn done(task: &Task, history: &[Line]) -> BTreeSet<Name> {
    let Task::Steps(steps) = task else { return BTreeSet::new() };
    let place = |name: &Name| steps.iter().position(|step| step.name == *name);
    let mut done = BTreeSet::new();
    for event in history.iter().filter_map(|line| line.event.as_ref()) {
        match event {
            RunEvent::Step { step, state: StepState::Begun } => done.retain(|known| place(known) < place(step)),
            RunEvent::Step { step, state: StepState::Succeeded } => drop(done.insert(step.clone())),
            _ => {}
        }
    }
    done
}

/// A run that is in the table for as long as this lives.
struct UnderWay<'a>(&'a Carrier, RunId);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.table().remove(&self.1);
    }
}

impl Runner for Carrier {
    fn run(&self, run: Arc<Run>, history: Vec<Line>, output: Output, stop: Stop) -> BoxFuture<'_, End> {
        Box::pin(async move {
            self.table().insert(run.id.clone(), run.order.job.clone());
            let _under_way = UnderWay(self, run.id.clone());
            self.carry_out(&run, &history, output, stop).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_model::Time;
    use regrow_model::run::{ExecTask, StepTask};
    use regrow_model::spec::When;

    /// Shows that only steps that succeeded are not done again, and that a try from the beginning begins from there.
    #[test]
    fn what_is_done() {
        let name = |name: &str| Name::new(name).expect("a name");
        let exec =
            || Task::Exec(ExecTask { command: vec!["true".into()], directory: None, environment: BTreeMap::new() });
        let step = |text: &str| StepTask { name: name(text), when: When::Success, task: exec() };
        let task = Task::Steps(["zero", "one", "two", "three"].into_iter().map(step).collect());
        let told = |text: &str, state| Line::event(Time(0), RunEvent::Step { step: name(text), state });
        let mut history: Vec<Line> = vec![];
        let mut then = |lines: &[(&str, StepState)]| {
            history.extend(lines.iter().map(|(step, state)| told(step, *state)));
            done(&task, &history).iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        use StepState::{Begun, Failed, Skipped, Succeeded};
        assert_eq!(then(&[("zero", Begun), ("zero", Succeeded), ("one", Begun)]), ["zero"]);
        assert_eq!(then(&[("one", Begun), ("one", Succeeded), ("two", Skipped), ("three", Begun)]), ["one", "zero"]);
        assert_eq!(then(&[("three", Failed), ("zero", Begun)]), [""; 0]);
        assert_eq!(then(&[("zero", Succeeded)]), ["zero"]);
    }
}
