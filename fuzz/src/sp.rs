//! SP: messages come out the same however the bytes are split, a handshake and a backtrace are
//! understood or refused, and nothing is allocated for a length (`spec.md §13`).

use trunkline::{
    sp::wire::{self, HeaderError, Inbox, MessageError, Outbox},
    transport::Framing,
};

use super::cursor::Cursor;

/// The first bytes choose framing, limit and sizes; then come a handshake and the wire.
pub fn sp(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let choice = cursor.u8();
    let framing = if choice & 1 == 0 { Framing::Plain } else { Framing::Local };
    let limit = [None, Some(1 << 20), Some(100), Some(1)][usize::from(choice >> 1 & 3)];
    let max_hops = cursor.u8().max(1);
    let count = usize::from(cursor.u8() % 16);
    let sizes = cursor.bytes(count).to_vec();
    let wire = cursor.rest();
    handshake(wire);
    let whole = messages(wire, framing, limit, &[]);
    assert_eq!(messages(wire, framing, limit, &[0]), whole, "byte by byte");
    if !sizes.is_empty() {
        assert_eq!(messages(wire, framing, limit, &sizes), whole, "in pieces of {sizes:?} + 1");
    }
    let (messages, error) = whole;
    encode_again(wire, framing, &messages, error);
    for message in messages {
        backtrace(&message, max_hops);
    }
}

fn handshake(wire: &[u8]) {
    let Some(bytes) = wire.first_chunk::<8>() else { return };
    match wire::parse_handshake(*bytes) {
        Ok(id) => assert_eq!(wire::handshake(id), *bytes),
        Err(HeaderError::Version(version)) => assert!(version == bytes[3] && version != 0),
        Err(HeaderError::Malformed(found)) => assert_eq!(found, *bytes),
    }
}

type Messages = (Vec<Vec<u8>>, Option<MessageError>);

/// Takes `wire` in pieces of `sizes` plus one, over and over; no sizes mean as much as fits.
fn messages(mut wire: &[u8], framing: Framing, limit: Option<usize>, sizes: &[u8]) -> Messages {
    let mut inbox = Inbox::new(framing, limit);
    let mut found = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut received = 0;
    loop {
        match inbox.next() {
            Ok(Some(message)) => {
                assert!(limit.is_none_or(|limit| message.len() <= limit));
                found.push(message.to_vec());
                continue;
            }
            Ok(None) if wire.is_empty() => return (found, None),
            Ok(None) => {}
            Err(error) => return (found, Some(error)),
        }
        let size = sizes.next().map_or(usize::MAX, |size| usize::from(*size) + 1);
        let room = inbox.room();
        assert!(!room.is_empty(), "room for more");
        let len = size.min(room.len()).min(wire.len());
        room[..len].copy_from_slice(&wire[..len]);
        inbox.filled(len);
        wire = &wire[len..];
        received += len;
        assert!(inbox.capacity() <= 2 * received + (192 << 10), "memory for what arrived");
    }
}

/// What was understood is encoded to the bytes it came from.
fn encode_again(wire: &[u8], framing: Framing, messages: &[Vec<u8>], error: Option<MessageError>) {
    let mut outbox = Outbox::new(framing);
    for message in messages {
        outbox.push(&[], &message.clone().into());
    }
    let bytes = outbox.to_vec();
    assert_eq!(bytes, wire[..bytes.len()]);
    assert!(error.is_none() || bytes.len() < wire.len());
}

/// Header and body are the message, and the header ends with the first high bit.
fn backtrace(message: &[u8], max_hops: u8) {
    let split = wire::split_backtrace(message.to_vec().into(), max_hops);
    let end = message.chunks_exact(4).position(|word| word[0] & 0x80 != 0);
    match (split, end) {
        (Ok((header, body)), Some(end)) => {
            assert!(end < usize::from(max_hops) && header.len() == 4 * (end + 1));
            assert_eq!([&header[..], &body[..]].concat(), message);
        }
        (Err(_), None) => {}
        (Err(_), Some(end)) => assert!(end >= usize::from(max_hops)),
        (Ok(_), None) => panic!("a backtrace without an end"),
    }
}
