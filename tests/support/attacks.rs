//! What a peer can throw at an end that is alone, and how that end takes it.
#![allow(dead_code, clippy::unwrap_used)]

use std::time::Duration;

use trunkline::{
    Config, Role, SessionError, StreamId, Violation,
    frame::{Flags, Header, Kind},
    proto::Slot,
};

use crate::{heap::in_use, sim::Lone};

pub(crate) const WINDOW: u32 = 262_144;
pub(crate) const KIB: i64 = 1 << 10;

pub(crate) fn header(kind: Kind, flags: Flags, id: u32, length: u32) -> [u8; 12] {
    Header { kind, flags, stream: StreamId(id), length }.encode()
}

pub(crate) fn credit(flags: Flags, id: u32, length: u32) -> [u8; 12] {
    header(Kind::WindowUpdate, flags, id, length)
}

pub(crate) fn data(flags: Flags, id: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = header(Kind::Data, flags, id, body.len() as u32).to_vec();
    frame.extend_from_slice(body);
    frame
}

pub(crate) fn ping(value: u32) -> [u8; 12] {
    header(Kind::Ping, Flags::SYN, 0, value)
}

pub(crate) fn server() -> Lone {
    Lone::new(Role::Server, &Config::builder().seed(Some(3)).build().unwrap())
}

/// A server with stream 1 opened by the peer and accepted.
pub(crate) fn serving() -> (Lone, Slot) {
    let mut lone = server();
    lone.feed(&credit(Flags::SYN, 1, 0));
    let slot = lone.core.accept().unwrap();
    lone.pass(Duration::from_millis(5));
    lone.drain();
    (lone, slot)
}

/// A client with its first stream, id 1, opened.
pub(crate) fn calling() -> (Lone, Slot) {
    let mut lone = Lone::new(Role::Client, &Config::default());
    let slot = lone.core.open().unwrap();
    lone.drain();
    (lone, slot)
}

pub(crate) fn violation(lone: &Lone) -> Option<Violation> {
    match lone.core.ended() {
        Some(Err(SessionError::Violation { rule, .. })) => Some(rule),
        Some(other) => panic!("another end: {other:?}"),
        None => None,
    }
}

/// How many frames go in before the session ends, and why it does; at most `most`.
pub(crate) fn fed_until_end(
    lone: &mut Lone,
    most: usize,
    frame: impl FnMut(usize) -> Vec<u8>,
) -> (usize, Option<Violation>) {
    let (sent, rule, _) = measured_until_end(lone, most, frame);
    (sent, rule)
}

/// The same, and the memory that was held at the worst moment.
pub(crate) fn measured_until_end(
    lone: &mut Lone,
    most: usize,
    mut frame: impl FnMut(usize) -> Vec<u8>,
) -> (usize, Option<Violation>, i64) {
    let before = in_use();
    let mut held = 0;
    for sent in 0..most {
        lone.feed(&frame(sent));
        lone.events();
        held = held.max(in_use() - before);
        if let Some(rule) = violation(lone) {
            return (sent + 1, Some(rule), held);
        }
    }
    (most, None, held)
}

pub(crate) fn says_protocol_error(lone: &mut Lone) -> bool {
    let last = lone.drain().pop();
    last.is_some_and(|h| h.kind == Kind::GoAway && h.length == 1)
}
