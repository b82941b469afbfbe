//! The messages of an exchange decode the same however their bytes are split, and nothing is
//! allocated for a promise (`spec.md §14.2`).

use bytes::Bytes;
use trunkline::exchange::{Decoder, Malformed, Message, encode};

use super::cursor::Cursor;

/// The first bytes choose the maximum, whose messages they are, and sizes; the rest is the wire.
pub fn messages(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let max = cursor.pick(&[1, 10, 1_000, 65_536, usize::MAX]);
    let from_opener = cursor.flag();
    let count = usize::from(cursor.u8() % 16);
    let sizes = cursor.bytes(count).to_vec();
    let wire = cursor.rest();
    let whole = decode(wire, &[], max, from_opener);
    assert_eq!(decode(wire, &[0], max, from_opener), whole, "byte by byte");
    if !sizes.is_empty() {
        assert_eq!(decode(wire, &sizes, max, from_opener), whole, "in pieces of {sizes:?} + 1");
    }
    again(&whole.messages, usize::from(cursor_fragment(data)));
}

fn cursor_fragment(data: &[u8]) -> u8 {
    data.last().copied().unwrap_or(1)
}

#[derive(Debug, PartialEq)]
struct Decoded {
    messages: Vec<Message>,
    ttl: Option<u32>,
    end: Result<bool, Malformed>,
}

fn decode(mut wire: &[u8], sizes: &[u8], max: usize, from_opener: bool) -> Decoded {
    let mut decoder = Decoder::new(max, from_opener);
    let mut messages = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !wire.is_empty() {
        let size = sizes.next().map_or(wire.len(), |size| usize::from(*size) + 1);
        let (piece, rest) = wire.split_at(size.min(wire.len()));
        wire = rest;
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => {
                    assert!(message.body.len() <= max, "a message beyond the maximum");
                    messages.push(message);
                }
                Ok(None) => break,
                Err(error) => return Decoded { messages, ttl: decoder.ttl(), end: Err(error) },
            }
        }
        assert!(input.is_empty(), "more was wanted while some was left");
    }
    Decoded { messages, ttl: decoder.ttl(), end: Ok(decoder.at_boundary()) }
}

/// What was decoded survives encoding.
fn again(messages: &[Message], fragment: usize) {
    let mut wire = Vec::new();
    for message in messages {
        encode(message, None, fragment, &mut wire);
    }
    let found = decode(&wire, &[], usize::MAX, false);
    assert_eq!((found.messages.as_slice(), found.end), (messages, Ok(true)));
}
