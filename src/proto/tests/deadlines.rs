//! The queue of deadlines against a sorted list.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use quickcheck::quickcheck;

use crate::proto::deadline::DeadlineQueue;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u16),
    Cancel(u8),
    Sweep,
    PassTime(u16),
}

impl quickcheck::Arbitrary for Step {
    fn arbitrary(g: &mut quickcheck::Gen) -> Self {
        match u8::arbitrary(g) % 8 {
            // Of a few timeouts as a rule, as in a session, and of any now and then.
            0..=2 => Self::Push([1_000, 5_000, 300, 20][usize::arbitrary(g) % 4]),
            3 => Self::Push(u16::arbitrary(g)),
            4..=5 => Self::Cancel(u8::arbitrary(g)),
            6 => Self::Sweep,
            _ => Self::PassTime(u16::arbitrary(g) % 400),
        }
    }
}

quickcheck! {
    /// What comes out is what is due, in order; what lives stays; the dead are bounded.
    fn a_queue_does_what_a_sorted_list_does(steps: Vec<Step>) -> bool {
        let start = Instant::now();
        let mut now = start;
        let mut queue = DeadlineQueue::new();
        let mut live = BTreeSet::new();
        // Often enough for sweeps to matter.
        for (number, step) in steps.iter().cycle().take(steps.len() * 20).enumerate() {
            match *step {
                Step::Push(millis) => {
                    let at = now + Duration::from_millis(millis.into());
                    queue.push(at, (at, number));
                    live.insert((at, number));
                }
                Step::Cancel(which) => {
                    let nth = usize::from(which) % live.len().max(1);
                    if let Some(key) = live.iter().nth(nth).copied() {
                        live.remove(&key);
                        queue.cancelled();
                    }
                }
                Step::Sweep => {
                    queue.sweep(|key| live.contains(&key));
                    if queue.len() > live.len() * 2 + 130 {
                        return false;
                    }
                }
                Step::PassTime(millis) => {
                    now += Duration::from_millis(millis.into());
                    let mut last = start;
                    while let Some(key) = queue.pop_due(now) {
                        if key.0 < last || key.0 > now {
                            return false;
                        }
                        last = key.0;
                        live.remove(&key);
                    }
                    if live.first().is_some_and(|(at, _)| *at <= now) {
                        return false;
                    }
                }
            }
            let first = live.first().map(|(at, _)| *at);
            if first.is_some_and(|at| queue.next().is_none_or(|next| next > at)) {
                return false;
            }
        }
        true
    }
}
