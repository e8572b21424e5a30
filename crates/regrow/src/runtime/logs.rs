//! Instances' output, from the files that their shims write.

use regrow_effects::World;
use regrow_model::InstanceId;
use regrow_serve::wire::LogsQuery;
use regrow_serve::{AgentError, Lines};
use std::time::Duration;
use tokio::sync::mpsc;

/// Most lines of one answer, beside what follows.
const TAIL_MAX: usize = 100_000;
/// Lines waiting for a slow reader.
const LINES_WAITING: usize = 256;
/// How often a followed instance is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The lines that a query asks for.
pub(super) async fn lines(world: World, instance: InstanceId, query: LogsQuery) -> Result<Lines, AgentError> {
    if world.log_files(&instance).is_empty() && !query.follow {
        return Err(AgentError::NotFound(format!("nothing is kept of an instance `{instance}`")));
    }
    let tail = query.tail.unwrap_or(100).min(TAIL_MAX);
    let reader = world.logs(&instance, tail);
    let mut reader =
        reader.map_err(|error| AgentError::Unavailable(format!("cannot read the output of {instance}: {error}")))?;
    let (sender, lines) = mpsc::channel(LINES_WAITING);
    tokio::spawn(async move {
        loop {
            let more = tokio::task::block_in_place(|| reader.more());
            let Ok(more) = more else { return };
            for line in &more {
                if sender.send(line.clone()).await.is_err() {
                    return;
                }
            }
            if !more.is_empty() {
                continue;
            }
            if !query.follow {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    });
    Ok(lines)
}
