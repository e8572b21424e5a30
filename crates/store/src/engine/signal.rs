//! Small tools for threads.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

/// Locks, also after a panic elsewhere: what is locked here is changed in steps that leave it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same to read.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same to write.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes one thread that has something to do, or is to stop.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    stopped: bool,
}

impl Signal {
    /// There is something to do.
    pub(crate) fn wake(&self) {
        lock(&self.state).woken = true;
        self.changed.notify_one();
    }

    /// It is over.
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Waits until there is something to do, or for so long; `false` when it is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let idle = |state: &mut State| !state.woken && !state.stopped;
        let state = lock(&self.state);
        let mut state = match timeout {
            Some(timeout) => {
                self.changed.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
        };
        state.woken = false;
        !state.stopped
    }
}
