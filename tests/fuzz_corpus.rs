//! The fuzz harness without a fuzzer: every file of the corpus, and pseudo-random inputs.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod harness;

use harness::seeds;
use trunkline::SessionError;

#[test]
fn the_corpus_holds_every_seed() {
    for seed in seeds::all() {
        let file = corpus(seed.target).join(seed.name);
        if env::var_os("TRUNKLINE_WRITE_SEEDS").is_some() {
            fs::create_dir_all(corpus(seed.target)).unwrap();
            fs::write(&file, &seed.bytes).unwrap();
        }
        let stored = fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_eq!(stored, seed.bytes, "{file:?}: set TRUNKLINE_WRITE_SEEDS to write it anew");
    }
}

#[test]
fn hostile_seeds_break_the_rule_they_are_meant_to() {
    for seed in seeds::all().into_iter().filter(|seed| seed.target == "hostile") {
        let broken = match harness::hostile_outcome(&seed.bytes) {
            Some(Err(SessionError::Violation { rule, .. })) => Some(rule),
            _ => None,
        };
        assert_eq!(broken, seed.violates, "{}", seed.name);
    }
}

#[cfg(feature = "rpc")]
#[test]
fn seeds_of_exchanges_get_as_far_as_they_are_meant_to() {
    // Calls of the peer that were answered well, failed or were given up; calls of ours that went
    // well.
    let expected = |name: &str| match name {
        "unary" | "client-streaming" | "server-streaming" | "conversation" => (1, 0, 0, 0),
        "a-promise" | "a-kind-nobody-knows" | "half-a-request" | "no-request" => (0, 1, 0, 0),
        "given-up" | "expired" => (0, 0, 1, 0),
        "our-unary"
        | "our-server-streaming"
        | "our-client-streaming"
        | "our-conversation"
        | "our-exchange" => (0, 0, 0, 1),
        _ => (0, 0, 0, 0),
    };
    for seed in seeds::all().into_iter().filter(|seed| seed.target == "exchanges") {
        let (stats, ours) = harness::exchanges_outcome(&seed.bytes);
        let found = (stats.done, stats.failed, stats.cancelled, ours);
        assert_eq!(found, expected(seed.name), "{}", seed.name);
    }
}

#[test]
fn header_replays_its_corpus() {
    replay("header", harness::header);
}

#[test]
fn decoder_replays_its_corpus() {
    replay("decoder", harness::decoder);
}

#[test]
fn hostile_replays_its_corpus() {
    replay("hostile", harness::hostile);
}

#[test]
fn operations_replays_its_corpus() {
    replay("operations", harness::operations);
}

#[test]
fn differential_replays_its_corpus() {
    replay("differential", harness::differential);
}

#[cfg(feature = "rpc")]
#[test]
fn messages_replay_their_corpus() {
    replay("messages", harness::messages);
}

#[cfg(feature = "rpc")]
#[test]
fn heads_replay_their_corpus() {
    replay("heads", harness::heads);
}

#[cfg(feature = "rpc")]
#[test]
fn exchanges_replay_their_corpus() {
    replay("exchanges", harness::exchanges);
}

#[cfg(feature = "rpc")]
#[test]
fn exchanges_hold_for_random_inputs() {
    random(5_000, 400, harness::exchanges);
}

#[cfg(feature = "rpc")]
#[test]
fn messages_hold_for_random_inputs() {
    random(50_000, 200, harness::messages);
}

#[cfg(feature = "rpc")]
#[test]
fn heads_hold_for_random_inputs() {
    random(50_000, 100, harness::heads);
}

#[test]
#[cfg(feature = "sp")]
fn sp_replays_its_corpus() {
    replay("sp", harness::sp);
}

#[test]
#[cfg(feature = "sp")]
fn sp_holds_for_random_inputs() {
    random(20_000, 300, harness::sp);
}

#[test]
#[cfg(feature = "peers")]
fn peers_replay_their_corpus() {
    replay("peers", harness::peers);
}

#[test]
#[cfg(feature = "peers")]
fn peers_hold_for_random_inputs() {
    random(50_000, 200, harness::peers);
}

#[test]
fn header_holds_for_random_inputs() {
    random(20_000, 120, harness::header);
}

#[test]
fn decoder_holds_for_random_inputs() {
    random(20_000, 300, harness::decoder);
}

#[test]
fn hostile_holds_for_random_inputs() {
    random(5_000, 400, harness::hostile);
}

#[test]
fn operations_hold_for_random_inputs() {
    random(5_000, 400, harness::operations);
}

#[test]
fn differential_holds_for_random_inputs() {
    random(5_000, 400, harness::differential);
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str, play: fn(&[u8])) {
    let mut files: Vec<_> =
        fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus for {target}");
    for file in files {
        let input = fs::read(&file).unwrap();
        let _naming = Naming(format!("{file:?}"));
        play(&input);
    }
}

/// A twentieth of `count`, unless all are asked for.
fn random(count: u64, longest: usize, play: fn(&[u8])) {
    let thorough = env::var_os("TRUNKLINE_THOROUGH").is_some();
    let count = if thorough { count } else { count / 20 };
    for seed in 0..count {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let len = chance.next() as usize % (longest + 1);
        // Small numbers choose; a uniform byte is a rare choice as often as a common one.
        let input: Vec<u8> =
            (0..len).map(|_| (chance.next() >> (chance.next() % 8)) as u8).collect();
        let _naming = Naming(format!("input {seed}: {input:?}"));
        play(&input);
    }
}

/// Says which input failed.
struct Naming(String);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed on {}", self.0);
        }
    }
}

/// Xorshift: inputs differ, and are the same everywhere.
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        let mut x = self.0 ^ 0x2545_f491_4f6c_dd1d;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24
    }
}
