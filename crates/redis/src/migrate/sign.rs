//! The sign of a feed on the target, while its snapshot is loaded: what was remembered as loaded counts only where the sign is.

use std::sync::Arc;
use std::time::Duration;

use super::carrier::{Carrier, Sign};
use super::error::MigrateError;
use super::options::Shared;

/// Leaves signs, and looks for them.
#[derive(Debug)]
pub(super) struct Signer {
    /// What leaves them.
    pub carrier: Carrier,
    last: Sign,
    changes: u64,
}

/// The name of a feed's signs.
pub(super) fn sign_name(feed: usize) -> String {
    format!("w{feed}")
}

impl Signer {
    /// `number`: of the last sign that is remembered; 0: there was none.
    pub(super) fn new(shared: &Shared, feed: usize, number: u64) -> Self {
        let who = Arc::new(shared.to_target(&format!("begin{feed}")));
        Self { carrier: shared.carrier(&who), last: Sign { name: sign_name(feed), number }, changes: 0 }
    }

    /// Whether a master is another than before.
    pub(super) fn moved(&self) -> bool {
        self.carrier.changes() != self.changes
    }

    /// Of the last sign.
    pub(super) fn number(&self) -> u64 {
        self.last.number
    }

    /// Whether every master has the last sign, and so all that was there before it.
    pub(super) async fn kept(&mut self) -> Result<bool, MigrateError> {
        let found = self.carrier.signed(&self.last.name).await?;
        self.changes = self.carrier.changes();
        Ok(found >= self.last.number)
    }

    /// Leaves the next sign, if all masters take it now.
    pub(super) async fn next(&mut self, within: Duration) -> bool {
        let sign = Sign { name: self.last.name.clone(), number: self.last.number + 1 };
        let good = self.carrier.confirmed(within, Some(&sign)).await && self.carrier.changes() == self.changes;
        if good {
            self.last = sign;
        }
        good
    }

    /// The same, and waits for it. False: a master is another than before.
    pub(super) async fn last(&mut self, within: Duration) -> Result<bool, MigrateError> {
        let sign = Sign { name: self.last.name.clone(), number: self.last.number + 1 };
        self.carrier.confirm(within, Some(&sign)).await?;
        let good = self.carrier.changes() == self.changes;
        if good {
            self.last = sign;
        }
        Ok(good)
    }
}
