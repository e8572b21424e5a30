//! Carries the repairs of [`crate::plan::fix`] out.

use std::collections::BTreeMap;

use crate::plan::{FixPlan, KeyCounts, Repair, fix, slots_to_count};
use crate::resp::{Command, Value};
use crate::slot_set::SlotSet;
use crate::topology::NodeId;

use super::cluster::Cluster;
use super::error::AdminError;
use super::slots::{MoveLimits, Twin, set_slot};

/// Commands sent at once where thousands of slots are assigned.
const PIPELINE_MAX: usize = 1000;

impl Cluster {
    /// What would mend the cluster as of the last picture. Asks masters how many keys they hold in the slots in question.
    pub async fn plan_fix(&mut self) -> Result<FixPlan, AdminError> {
        let slots: Vec<_> = slots_to_count(self.picture()).iter().collect();
        let masters: Vec<NodeId> = self.picture().masters().map(|node| node.id.clone()).collect();
        let mut counts: KeyCounts = BTreeMap::new();
        for id in &masters {
            let link = self.link(id)?;
            for chunk in slots.chunks(PIPELINE_MAX) {
                let commands: Vec<Command> =
                    chunk.iter().map(|slot| Command::new("CLUSTER COUNTKEYSINSLOT").number(slot.number())).collect();
                for ((slot, command), answer) in chunk.iter().zip(&commands).zip(link.pipeline(&commands).await?) {
                    let answer = link.accept(command, answer)?;
                    let keys = answer
                        .int()
                        .and_then(|keys| u64::try_from(keys).ok())
                        .ok_or_else(|| link.unexpected(command, "a count", &answer))?;
                    if keys > 0 {
                        counts.insert((*slot, id.clone()), keys);
                    }
                }
            }
        }
        Ok(fix(self.picture(), &counts))
    }

    /// Does one repair. The keys that were left where they are, because their owner has keys of the same name.
    pub async fn mend(&mut self, repair: &Repair, limits: MoveLimits) -> Result<u64, AdminError> {
        match repair {
            Repair::Meet { node, peer } => {
                let meet = self.meet(peer)?;
                self.link(node)?.ok(&meet).await?;
            }
            Repair::Assign { slots, to } => self.assign(slots, to).await?,
            Repair::Gather { slot, from, to } => {
                // Only a node that takes a slot may send its keys away, unless it owns it.
                let owns = self.node(from)?.slots.contains(*slot);
                if !owns {
                    self.link(from)?.ok(&set_slot(*slot).arg("IMPORTING").arg(to)).await?;
                }
                let emptied = self.empty_slot(*slot, from, to, Twin::Keep, limits).await?;
                if !owns {
                    self.link(from)?.ok(&set_slot(*slot).arg("STABLE")).await?;
                }
                return Ok(emptied.kept);
            }
            Repair::Settle { slot, owner, others } => {
                self.link(owner)?.call(&Command::new("CLUSTER BUMPEPOCH")).await?;
                for other in others {
                    self.link(other)?.ok(&set_slot(*slot).arg("NODE").arg(owner)).await?;
                }
            }
            Repair::Finish { slot, from, to } => {
                self.finish_slot(*slot, from, to, limits).await?;
            }
            Repair::Close { slot, node } => self.link(node)?.ok(&set_slot(*slot).arg("STABLE")).await?,
        }
        Ok(0)
    }

    async fn assign(&mut self, slots: &SlotSet, to: &NodeId) -> Result<(), AdminError> {
        let link = self.link(to)?;
        let slots: Vec<_> = slots.iter().collect();
        for chunk in slots.chunks(PIPELINE_MAX) {
            // The node may hold another for the owner; then it must unlearn that first. Where it does not, the server
            // refuses, which is as good.
            let unlearn: Vec<Command> =
                chunk.iter().map(|slot| Command::new("CLUSTER DELSLOTS").number(slot.number())).collect();
            for answer in link.pipeline(&unlearn).await? {
                debug_assert!(answer.is_ok() || matches!(answer, Value::Error(_)));
            }
            link.ok(&Command::new("CLUSTER ADDSLOTS").args(chunk.iter().map(|slot| slot.to_string()))).await?;
        }
        link.call(&Command::new("CLUSTER BUMPEPOCH")).await?;
        Ok(())
    }
}
