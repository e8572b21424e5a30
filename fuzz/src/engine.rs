//! The loop: mutate, run, keep what reaches something new.

use std::cell::RefCell;
use std::time::Duration;

use regrow_gossip::Rng;

use crate::coverage::Seen;
use crate::memory;

/// Longest input that mutation makes, in bytes.
const INPUT_BYTES_MAX: usize = 4096;
/// Most inputs kept for one target.
const KEPT_MAX: usize = 4096;
/// Most of the processor's time between two looks at it.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Executions between two looks.
const TIMED_EVERY: u64 = 256;

/// Something that takes bytes from a peer.
pub struct Target {
    pub name: &'static str,
    pub run: Box<dyn FnMut(&[u8])>,
    pub samples: Vec<Vec<u8>>,
    /// Bytes that often mean something to it.
    pub markers: &'static [u8],
    /// Bytes that one execution may allocate, and so many more for each byte of its input.
    pub bytes_max: (usize, usize),
}

pub struct Done {
    pub executions: u64,
    pub kept: usize,
    pub edges: usize,
    pub most_bytes: usize,
    pub seconds: f64,
}

thread_local! {
    static INPUT: RefCell<(&'static str, Vec<u8>)> = const { RefCell::new(("", Vec::new())) };
}

/// A panic tells which input of which target it was.
pub fn report_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        INPUT.with_borrow(|(name, input)| {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("target {name}, input {hex}");
        });
    }));
}

/// Time that this thread has had of the processor; other things that the machine does are not in it.
fn worked() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the kernel tells in /proc/thread-self/schedstat"))
}

pub fn fuzz(mut target: Target, runs: u64) -> Done {
    let start = worked();
    let mut rng = Rng::new([71; 32]);
    // What making the samples reached is not the target's.
    Seen::new().take();
    let mut seen = Seen::new();
    let mut kept: Vec<Vec<u8>> = vec![Vec::new()];
    let mut done = Done { executions: 0, kept: 0, edges: 0, most_bytes: 0, seconds: 0.0 };
    let samples = std::mem::take(&mut target.samples);
    let mut first = samples.into_iter();
    let mut timed = start;
    while done.executions < runs {
        let (sample, input) = match first.next() {
            Some(sample) => (true, sample),
            None => (false, mutate(&kept, target.markers, &mut rng)),
        };
        INPUT.with_borrow_mut(|(name, last)| {
            *name = target.name;
            last.clear();
            last.extend_from_slice(&input);
        });
        let bytes = memory::most_while(|| (target.run)(&input));
        let (base, each) = target.bytes_max;
        assert!(bytes <= base + each * input.len(), "{bytes} bytes allocated for {} bytes of input", input.len());
        done.most_bytes = done.most_bytes.max(bytes);
        done.executions += 1;
        if seen.take() || sample {
            let place = kept.len();
            if place < KEPT_MAX { kept.push(input) } else { kept[rng.below(KEPT_MAX)] = input }
        }
        if done.executions % TIMED_EVERY == 0 {
            let now = worked();
            assert!(now - timed < TIME_MAX, "{TIMED_EVERY} inputs took {:?}", now - timed);
            timed = now;
        }
    }
    done.kept = kept.len();
    done.edges = seen.edges();
    done.seconds = (worked() - start).as_secs_f64();
    done
}

/// One of the kept inputs with some bytes changed, cut out, doubled, or taken from another one.
fn mutate(kept: &[Vec<u8>], markers: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut input = kept[rng.below(kept.len())].clone();
    for _ in 0..=rng.below(5) {
        let at = rng.below(input.len() + 1);
        match rng.below(11) {
            0 if at < input.len() => input[at] = rng.next_u64() as u8,
            1 if at < input.len() => input[at] ^= 1 << rng.below(8),
            2 => input.truncate(at),
            3 => input.insert(at, rng.next_u64() as u8),
            4 if at < input.len() => {
                input.remove(at);
            }
            5 => {
                let end = at + rng.below(input.len() - at + 1);
                let part = input[at..end].to_vec();
                let to = rng.below(input.len() + 1);
                input.splice(to..to, part);
            }
            6 => {
                let other = &kept[rng.below(kept.len())];
                let from = rng.below(other.len() + 1);
                let end = from + rng.below(other.len() - from + 1);
                let over = at + rng.below(input.len() - at + 1);
                input.splice(at..over, other[from..end].iter().copied());
            }
            7 if at < input.len() => input[at] = markers[rng.below(markers.len())],
            8 => {
                let value = LENGTHS[rng.below(LENGTHS.len())].to_be_bytes();
                let width = [1, 2, 4, 8][rng.below(4)];
                let end = (at + width).min(input.len());
                input.splice(at..end, value[8 - width..].iter().copied());
            }
            9 => {
                let end = at + rng.below(input.len() - at + 1);
                input.drain(at..end);
            }
            _ => {
                let part = [markers[rng.below(markers.len())], rng.next_u64() as u8];
                input.splice(at..at, part);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Lengths and numbers at the ends of their ranges.
const LENGTHS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
