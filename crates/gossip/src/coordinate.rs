//! Network coordinates: an estimate of the round trip to any member without measuring it. Vivaldi with
//! Serf's additions (height, adjustment, a median filter, gravity), with Serf's numbers.
//!
//! Source: Dabek et al., "Vivaldi: A Decentralized Network Coordinate System"; Serf's `coordinate`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::COORDINATE_DIMENSIONS;
use crate::rng::Rng;
use crate::wire::{Reader, WireError, Writer};

const ERROR_MAX: f64 = 1.5;
const ERROR_GAIN: f64 = 0.25;
const FORCE_GAIN: f64 = 0.25;
const ADJUSTMENT_WINDOW: usize = 20;
const HEIGHT_MIN: f64 = 10.0e-6;
const FILTER_SAMPLES: usize = 3;
const GRAVITY_RHO: f64 = 150.0;
/// Below this, in seconds, two points are one.
const ZERO: f64 = 1.0e-6;
/// Round trips over this are no measurement of the network.
const RTT_MAX: Duration = Duration::from_secs(10);
/// First byte of an ack's payload. Source: Serf `PingVersion`.
const PING_VERSION: u8 = 1;

/// A point, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinate {
    /// Position.
    pub vec: [f64; COORDINATE_DIMENSIONS],
    /// How wrong it may be; 1.5 at first, 0 is exact.
    pub error: f64,
    /// Correction from recent measurements, in seconds.
    pub adjustment: f64,
    /// Distance to the core of the network, in seconds.
    pub height: f64,
}

impl Default for Coordinate {
    fn default() -> Self {
        Self { vec: [0.0; COORDINATE_DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// The payload of an ack.
    pub(crate) fn encode_payload(&self) -> Vec<u8> {
        let mut writer = Writer::message(PING_VERSION);
        writer.map(4);
        writer.text("Vec");
        writer.array(self.vec.len());
        self.vec.iter().for_each(|value| writer.float(*value));
        for (name, value) in [("Error", self.error), ("Adjustment", self.adjustment), ("Height", self.height)] {
            writer.text(name);
            writer.float(value);
        }
        writer.finish()
    }

    /// The coordinate in the payload of an ack. One of another shape or with values that are no numbers is
    /// an error.
    pub(crate) fn decode_payload(payload: &[u8]) -> Result<Self, WireError> {
        let (&version, body) = payload.split_first().ok_or(WireError::Truncated)?;
        if version != PING_VERSION {
            return Err(WireError::UnknownType(version));
        }
        let mut found = Self::default();
        Reader::new(body).fields(|name, reader| {
            match name {
                b"Vec" => {
                    if reader.array()? != COORDINATE_DIMENSIONS {
                        return Err(WireError::Range { field: "Vec" });
                    }
                    for value in &mut found.vec {
                        *value = reader.float()?;
                    }
                }
                b"Error" => found.error = reader.float()?,
                b"Adjustment" => found.adjustment = reader.float()?,
                b"Height" => found.height = reader.float()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if found.is_valid() { Ok(found) } else { Err(WireError::Range { field: "coordinate" }) }
    }

    fn is_valid(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|value| value.is_finite())
    }

    fn raw_distance(&self, other: &Self) -> f64 {
        magnitude(&difference(&self.vec, &other.vec)) + self.height + other.height
    }

    /// The estimated round trip to `other`.
    pub fn distance(&self, other: &Self) -> Duration {
        Duration::try_from_secs_f64(self.seconds_to(other)).unwrap_or(Duration::MAX)
    }

    fn seconds_to(&self, other: &Self) -> f64 {
        let distance = self.raw_distance(other);
        let adjusted = distance + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { distance }
    }

    fn push(&mut self, force: f64, other: &Self, rng: &mut Rng) {
        let away = difference(&self.vec, &other.vec);
        let length = magnitude(&away);
        let (unit, length) = if length > ZERO { (away.map(|v| v / length), length) } else { (random_unit(rng), 0.0) };
        for (value, unit) in self.vec.iter_mut().zip(unit) {
            *value += unit * force;
        }
        if length > ZERO {
            self.height = ((self.height + other.height) * force / length + self.height).max(HEIGHT_MIN);
        }
    }
}

fn difference(a: &[f64; COORDINATE_DIMENSIONS], b: &[f64; COORDINATE_DIMENSIONS]) -> [f64; COORDINATE_DIMENSIONS] {
    std::array::from_fn(|at| a[at] - b[at])
}

fn magnitude(vec: &[f64; COORDINATE_DIMENSIONS]) -> f64 {
    vec.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn random_unit(rng: &mut Rng) -> [f64; COORDINATE_DIMENSIONS] {
    let vec: [f64; COORDINATE_DIMENSIONS] = std::array::from_fn(|_| rng.fraction() - 0.5);
    let length = magnitude(&vec);
    if length > ZERO {
        return vec.map(|value| value / length);
    }
    std::array::from_fn(|at| if at == 0 { 1.0 } else { 0.0 })
}

/// Our coordinate and what it is learned from.
#[derive(Debug, Default)]
pub(crate) struct Position {
    own: Coordinate,
    adjustments: [f64; ADJUSTMENT_WINDOW],
    adjustment_at: usize,
    /// By the number of the name.
    peers: BTreeMap<u32, Peer>,
}

/// What is known of one member; forgotten with it.
#[derive(Debug, Default)]
struct Peer {
    /// Position, error, adjustment, height. Half the precision that they come in is more than they are good for.
    coordinate: [f32; COORDINATE_DIMENSIONS + 3],
    /// The last round trips, in seconds; the newest is at `count − 1`.
    samples: [f32; FILTER_SAMPLES],
    count: u8,
}

impl Peer {
    fn samples(&self) -> &[f32] {
        &self.samples[..usize::from(self.count)]
    }

    fn add(&mut self, coordinate: &Coordinate, rtt: f64) {
        let values = coordinate.vec.iter().chain([&coordinate.error, &coordinate.adjustment, &coordinate.height]);
        self.coordinate.iter_mut().zip(values).for_each(|(kept, value)| *kept = *value as f32);
        if usize::from(self.count) == FILTER_SAMPLES {
            self.samples.rotate_left(1);
        } else {
            self.count += 1;
        }
        self.samples[usize::from(self.count) - 1] = rtt as f32;
    }

    fn coordinate(&self) -> Coordinate {
        let at = |at: usize| f64::from(self.coordinate[at]);
        Coordinate {
            vec: std::array::from_fn(at),
            error: at(COORDINATE_DIMENSIONS),
            adjustment: at(COORDINATE_DIMENSIONS + 1),
            height: at(COORDINATE_DIMENSIONS + 2),
        }
    }
}

impl Position {
    pub(crate) fn own(&self) -> Coordinate {
        self.own
    }

    /// The coordinate that a member last told us.
    pub(crate) fn of(&self, id: u32) -> Option<Coordinate> {
        self.peers.get(&id).map(Peer::coordinate)
    }

    pub(crate) fn forget(&mut self, id: u32) {
        self.peers.remove(&id);
    }

    /// The median of the last round trips to a member.
    pub(crate) fn median_rtt(&self, id: u32) -> Option<Duration> {
        let peer = self.peers.get(&id)?;
        Duration::try_from_secs_f64(median(peer.samples())?).ok()
    }

    /// Learns from a round trip to a member.
    pub(crate) fn update(&mut self, id: u32, other: Coordinate, rtt: Duration, rng: &mut Rng) {
        if rtt > RTT_MAX {
            return;
        }
        let peer = self.peers.entry(id).or_default();
        peer.add(&other, rtt.as_secs_f64());
        let rtt = median(peer.samples()).unwrap_or_default().max(ZERO);

        let distance = self.own.seconds_to(&other);
        let wrong = (distance - rtt).abs() / rtt;
        let weight = self.own.error / (self.own.error + other.error).max(ZERO);
        let gain = ERROR_GAIN * weight;
        self.own.error = (gain * wrong + self.own.error * (1.0 - gain)).min(ERROR_MAX);
        self.own.push(FORCE_GAIN * weight * (rtt - distance), &other, rng);

        self.adjustments[self.adjustment_at] = rtt - self.own.raw_distance(&other);
        self.adjustment_at = (self.adjustment_at + 1) % ADJUSTMENT_WINDOW;
        self.own.adjustment = self.adjustments.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);

        let origin = Coordinate::default();
        let pull = -(origin.seconds_to(&self.own) / GRAVITY_RHO).powi(2);
        self.own.push(pull, &origin, rng);
        if !self.own.is_valid() {
            self.own = Coordinate::default();
        }
    }
}

fn median(samples: &[f32]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).map(|rtt| f64::from(*rtt))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that members on a line, 10 ms apart, learn distances within a quarter of the truth.
    #[test]
    fn distances_are_learned() {
        let mut rng = Rng::new([5; 32]);
        let mut all: Vec<Position> = (0..6).map(|_| Position::default()).collect();
        let truth = |a: usize, b: usize| Duration::from_millis(10 * a.abs_diff(b) as u64);
        for _ in 0..3000 {
            let (a, b) = (rng.below(6), rng.below(6));
            if a != b {
                let other = all[b].own();
                all[a].update(b as u32, other, truth(a, b), &mut rng);
            }
        }
        for a in 0..6 {
            for b in 0..a {
                let (found, truth) = (all[a].own().distance(&all[b].own()), truth(a, b));
                let wrong = found.abs_diff(truth).as_secs_f64() / truth.as_secs_f64();
                assert!(wrong < 0.25, "{a}-{b}: {found:?} for {truth:?}");
            }
        }
        let median = all[0].median_rtt(3).unwrap();
        assert!(median.abs_diff(Duration::from_millis(30)) < Duration::from_micros(1), "{median:?}");
    }

    /// Shows that a coordinate travels, and that one with values that are no numbers is refused.
    #[test]
    fn payload_round_trips() {
        let mut coordinate = Coordinate { error: 0.5, ..Coordinate::default() };
        assert_eq!(Coordinate::decode_payload(&coordinate.encode_payload()), Ok(coordinate));
        coordinate.height = f64::NAN;
        assert!(Coordinate::decode_payload(&coordinate.encode_payload()).is_err());
        assert!(Coordinate::decode_payload(&[]).is_err());
        assert!(Coordinate::decode_payload(&[9, 0x80]).is_err());
    }
}
