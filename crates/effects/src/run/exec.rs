//! A command on the worker.

use super::process::{self, Program};
use super::{Came, Try};
use regrow_model::run::{ExecTask, Stream};
use regrow_model::spec::survey::text;
use std::collections::BTreeMap;

impl Try<'_> {
    pub(super) async fn exec(&self, task: &ExecTask) -> Came {
        let mut environment = self.environment();
        for (name, value) in &self.run.order.answers {
            environment.insert(format!("PARAM_{}", name.to_uppercase()), text(value));
        }
        environment.extend(task.environment.clone());
        environment.extend(self.secrets.clone());
        let program = Program {
            command: task.command.clone(),
            directory: &self.path(task.directory.as_deref().unwrap_or(".")),
            environment,
            memory_mib: self.run.order.memory_mib,
            grace: self.run.order.grace.0,
        };
        let mut tell = |line: &str| Some(self.sink.text(Stream::Stdout, line));
        let ended = process::run(&self.runs.program, program, self.reins.clone(), self.sink, &mut tell).await;
        Came { ended, recap: BTreeMap::new(), status: None, why: None }
    }
}
