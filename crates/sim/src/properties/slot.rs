//! *No two instances in one slot.*

use super::Truth;

impl Truth<'_> {
    /// At no moment do two processes live that were started for one slot, of whichever lives.
    ///
    /// The world does not help: it starts a life beside another one if that is what it is told. Checked at each start.
    pub(crate) fn slot(&self) -> Result<(), String> {
        let processes = self.world.processes();
        for (at, process) in processes.iter().enumerate() {
            if let Some(other) = processes[..at].iter().find(|other| other.instance == process.instance) {
                return Err(format!(
                    "{} has two processes: life {} as pid {} and life {} as pid {}",
                    process.instance, other.incarnation, other.id.pid, process.incarnation, process.id.pid
                ));
            }
        }
        Ok(())
    }
}
