//! Commands on a connection of the client's own.

use bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::slot::Slot;

use super::Session;
use crate::proxy::backend::{ASKING, Backend, Dedicated, RETRY_EVERY};
use crate::proxy::verdict::{Next, Trouble, after_answer, again_after_break};

/// Where a command has been, and where it goes next.
pub(super) struct Course {
    pub(super) slot: Slot,
    pub(super) readonly: bool,
    redirections: u8,
    since: Option<Instant>,
    /// For once, instead of the slot's master.
    asked: Option<Address>,
}

impl Course {
    pub(super) fn new(slot: Slot, readonly: bool) -> Self {
        Self { slot, readonly, redirections: 0, since: None, asked: None }
    }

    fn trouble(&mut self, fixed: bool) -> Trouble {
        let since = *self.since.get_or_insert_with(Instant::now);
        Trouble { redirections: self.redirections, since: since.elapsed(), readonly: self.readonly, fixed }
    }
}

impl Session {
    /// A connection to where a command goes next, and what has to be said before it. `Err`: the answer for the client.
    pub(super) async fn reach(&mut self, course: &mut Course) -> Result<(Dedicated, &'static [u8]), Bytes> {
        loop {
            if self.backend.is_retired() {
                self.backend = self.worker.backend();
            }
            let asked = course.asked.take();
            let failed = match self.backend.dedicated(course.slot, asked.as_ref(), self.client.proto.get()).await {
                Ok(Some(dedicated)) => return Ok((dedicated, if asked.is_some() { ASKING } else { b"" })),
                Ok(None) => Bytes::from(format!("-CLUSTERDOWN regrow: nobody serves slot {}\r\n", course.slot)),
                Err(error) => Backend::broken_answer(false, &error),
            };
            self.backend.look();
            if course.trouble(self.backend.is_fixed()).since >= self.worker.limits.retry_for || self.client.is_closed()
            {
                return Err(failed);
            }
            self.worker.metrics.retried();
            sleep(RETRY_EVERY).await;
        }
    }

    /// What follows from an answer; true: go round again. It is only ever sent again if it was not carried out.
    pub(super) async fn judge(&mut self, course: &mut Course, answer: &[u8], from: &Address) -> bool {
        // Only an error makes a command one that had trouble.
        if answer.first() != Some(&b'-') {
            return false;
        }
        let trouble = course.trouble(self.backend.is_fixed());
        let pause = match after_answer(answer, from, trouble, &self.worker.limits) {
            Next::Deliver => return false,
            Next::Moved(to) => {
                self.backend.moved(course.slot, &to);
                course.redirections += 1;
                Duration::ZERO
            }
            Next::Ask(to) => {
                course.asked = Some(to);
                course.redirections += 1;
                Duration::ZERO
            }
            Next::Later => RETRY_EVERY,
            Next::Lookup => {
                self.backend.look();
                RETRY_EVERY
            }
        };
        if pause.is_zero() {
            self.worker.metrics.redirected();
        } else {
            self.worker.metrics.retried();
            sleep(pause).await;
        }
        true
    }

    /// Whether a command whose connection broke goes round again.
    pub(super) async fn again(&mut self, course: &mut Course) -> bool {
        self.backend.look();
        let again = again_after_break(true, course.trouble(self.backend.is_fixed()), &self.worker.limits)
            && !self.client.is_closed();
        if again {
            self.worker.metrics.retried();
            sleep(RETRY_EVERY).await;
        }
        again
    }

    /// Sends requests to a slot's master, and follows it where it goes. `judged`: the answer that says whether they were
    /// carried out. `Err`: the answer for the client.
    pub(super) async fn call(
        &mut self,
        mut course: Course,
        requests: &[u8],
        count: usize,
        judged: impl Fn(&[Bytes]) -> Bytes,
    ) -> Result<Vec<Bytes>, Bytes> {
        loop {
            let (mut dedicated, before) = self.reach(&mut course).await?;
            let wire = dedicated.wire().map_err(|error| Backend::broken_answer(false, &error))?;
            let from = wire.address.clone();
            let mut all = BytesMut::with_capacity(before.len() + requests.len());
            all.put_slice(before);
            all.put_slice(requests);
            let skip = usize::from(!before.is_empty());
            match wire.call(&all, count + skip).await {
                Ok(mut answers) => {
                    answers.drain(..skip);
                    let judged = judged(&answers);
                    if !self.judge(&mut course, &judged, &from).await {
                        dedicated.give_back();
                        return Ok(answers);
                    }
                    dedicated.give_back();
                }
                Err(error) => {
                    if !self.again(&mut course).await {
                        return Err(Backend::broken_answer(true, &error));
                    }
                }
            }
        }
    }
}
