//! Where a test can plant a bug: between the rules of the runtime and everything else.

use regrow_control::reconcile::{Input, Transaction};
use regrow_model::{Action, Outcome, View};

/// Sits between a reconciler and the virtual world and store. The default of each method changes nothing.
pub trait Seam {
    /// Sees every transaction before the store does. `truth`: the store's records.
    fn commit(&mut self, truth: &View, transaction: Transaction) -> Transaction {
        let _ = truth;
        transaction
    }

    /// Sees every action before the world does.
    fn act(&mut self, action: Action) -> Deed {
        Deed::Do(vec![action])
    }

    /// Sees everything that the reconciler is told; `None` keeps it from it.
    fn tell(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }
}

/// What becomes of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// These are done; the outcome of the first is told.
    Do(Vec<Action>),
    /// Nothing is done, and this is told.
    Claim(Outcome),
}

/// No bug is planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faithful;

impl Seam for Faithful {}
