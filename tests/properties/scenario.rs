//! What the users at both ends do, and the path between them.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen};
use trunkline::proto::Direction;

use crate::sim::Path;

/// What one user wants next.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Open,
    Accept,
    Write {
        len: usize,
        chunk: bool,
    },
    Read {
        len: usize,
        chunk: bool,
    },
    ReadAll,
    Finish,
    Reset(u32),
    Drop,
    DropRead,
    DropWrite,
    Flush,
    /// Never ask this stream again, though it may wait for its turn.
    Abandon,
    Ping,
    Deadline {
        direction: Direction,
        after: Duration,
    },
    GoAway,
    Pass(Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) end: usize,
    pub(crate) stream: usize,
    pub(crate) op: Op,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) path: Path,
    pub(crate) stream_window: u32,
    pub(crate) receive_budget: usize,
    pub(crate) max_frame: u32,
    pub(crate) steps: Vec<Step>,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let roll = u8::arbitrary(g) % 64;
        let len = usize::arbitrary(g);
        let len = len % *g.choose(&[10, 1_000, 70_000, 400_000]).unwrap();
        let chunk = bool::arbitrary(g);
        let micros = u64::arbitrary(g) % *g.choose(&[100, 20_000, 500_000]).unwrap();
        let time = Duration::from_micros(micros);
        let op = match roll {
            0..=7 => Op::Open,
            8..=13 => Op::Accept,
            14..=29 => Op::Write { len, chunk },
            30..=37 => Op::Read { len, chunk },
            38..=41 => Op::ReadAll,
            42..=45 => Op::Finish,
            46 => Op::Reset(u32::arbitrary(g)),
            47 => Op::Drop,
            48 => Op::DropRead,
            49 => Op::DropWrite,
            50 | 51 => Op::Flush,
            52 => Op::Abandon,
            53 => Op::Ping,
            54 => Op::Deadline { direction: Direction::Read, after: time },
            55 => Op::Deadline { direction: Direction::Write, after: time },
            56 if chunk && len.is_multiple_of(8) => Op::GoAway,
            _ => Op::Pass(time),
        };
        Self { end: usize::from(bool::arbitrary(g)), stream: usize::arbitrary(g), op }
    }
}

impl Arbitrary for Scenario {
    fn arbitrary(g: &mut Gen) -> Self {
        let (rate, capacity, micros) = *g
            .choose(&[
                (0, usize::MAX, 0),
                (0, 1, 0),
                (0, 17, 0),
                (0, 4_096, 300),
                (2_000_000, 20_000, 5_000),
                (50_000_000, 1 << 20, 20_000),
            ])
            .unwrap();
        let delay = Duration::from_micros(micros);
        let shatter = bool::arbitrary(g);
        Self {
            seed: u64::arbitrary(g),
            path: Path { rate, delay, capacity, shatter, ..Path::PERFECT },
            stream_window: *g.choose(&[262_144, 262_144, 400_000]).unwrap(),
            receive_budget: *g.choose(&[262_144, 1 << 20, 256 << 20]).unwrap(),
            max_frame: *g.choose(&[1 << 10, 64 << 10]).unwrap(),
            steps: Vec::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let this = self.clone();
        let len = self.steps.len();
        let spans = std::iter::successors(Some(len.div_ceil(2)), |span| Some(span / 2))
            .take_while(|span| *span > 0);
        Box::new(spans.flat_map(move |span| {
            let this = this.clone();
            (0..len).step_by(span).map(move |at| {
                let mut less = this.clone();
                less.steps.drain(at..(at + span).min(len));
                less
            })
        }))
    }
}
