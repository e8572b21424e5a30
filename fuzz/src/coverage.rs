//! The edge counters that the compiler put into the crates under test.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Called before `main` by each instrumented piece of code, with all counters of the program.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    LENGTH.store(stop as usize - start as usize, Ordering::Relaxed);
}

/// Edges that are counted.
pub fn edges() -> usize {
    LENGTH.load(Ordering::Relaxed)
}

fn counters() -> &'static mut [u8] {
    let start = START.load(Ordering::Relaxed);
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the compiler's counters, for the life of the program; one thread runs the targets and this.
    unsafe { std::slice::from_raw_parts_mut(start, edges()) }
}

/// Counters looked at together: nearly all are zero after one execution.
const TOGETHER: usize = 64;

/// What was reached so far: for each edge the counts, in powers of two, that it was passed with.
pub struct Seen(Vec<u8>);

impl Seen {
    pub fn new() -> Self {
        Self(vec![0; edges()])
    }

    /// Takes what the last execution reached, and clears the counters. Says whether any of it is new.
    pub fn take(&mut self) -> bool {
        let mut new = false;
        let mut look = |counters: &mut [u8], seen: &mut [u8]| {
            for (count, seen) in counters.iter_mut().zip(seen).filter(|(count, _)| **count != 0) {
                let bucket = 1u8 << count.ilog2();
                new |= *seen & bucket == 0;
                *seen |= bucket;
                *count = 0;
            }
        };
        let (counters, last) = counters().as_chunks_mut::<TOGETHER>();
        let (seen, last_seen) = self.0.as_chunks_mut::<TOGETHER>();
        for (counters, seen) in counters.iter_mut().zip(seen) {
            if counters.iter().fold(0, |any, count| any | count) != 0 {
                look(counters, seen);
            }
        }
        look(last, last_seen);
        new
    }

    pub fn edges(&self) -> usize {
        self.0.iter().filter(|buckets| **buckets != 0).count()
    }
}
