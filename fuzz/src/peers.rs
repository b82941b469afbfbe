//! Peers: a handshake is understood or refused, frames come out the same however the bytes are
//! split, and nothing is allocated for a length (`spec.md §16.2`, `§16.4`).

use bytes::Bytes;
use trunkline::peers::wire::{Answer, Decoder, Frame, Hello};

use super::cursor::Cursor;

/// The first bytes choose a limit and sizes; the rest is the wire.
pub fn peers(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let limit = [1, 100, 1 << 16, 1 << 30][usize::from(cursor.u8() % 4)];
    let count = usize::from(cursor.u8() % 16);
    let sizes = cursor.bytes(count).to_vec();
    let wire = cursor.rest();
    handshake(wire);
    let whole = frames(wire, limit, &[]);
    assert_eq!(frames(wire, limit, &[0]), whole, "byte by byte");
    if !sizes.is_empty() {
        assert_eq!(frames(wire, limit, &sizes), whole, "in pieces of {sizes:?} + 1");
    }
    encode_again(wire, &whole);
}

/// What is understood comes back as it went; words that are no text excepted.
fn handshake(wire: &[u8]) {
    let bytes = Bytes::copy_from_slice(wire);
    if let Ok(hello) = Hello::decode(bytes.clone()) {
        assert!(comes_back(&hello.encode(), wire));
    }
    match Answer::decode(bytes) {
        Ok(Answer::Refused(_, words)) if words.contains('\u{fffd}') => {
            assert!(wire[0] != 0 && wire.len() <= 1 + 4_096);
        }
        Ok(answer) => assert!(comes_back(&answer.encode(), wire)),
        Err(_) => {}
    }
}

/// Behind its length, which says as much as it can.
fn comes_back(encoded: &[u8], wire: &[u8]) -> bool {
    let (len, encoded) = encoded.split_at(2);
    assert_eq!(usize::from(u16::from_be_bytes([len[0], len[1]])), encoded.len());
    *encoded == wire[..wire.len().min(usize::from(u16::MAX))]
}

/// The frames, and whether an error came behind them, or part of one more.
type Frames = (Vec<Frame>, bool, bool);

/// Takes `wire` in pieces of `sizes` plus one, over and over; no sizes mean all at once.
fn frames(mut wire: &[u8], limit: usize, sizes: &[u8]) -> Frames {
    let mut decoder = Decoder::new(limit);
    let mut found = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut received = 0;
    loop {
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true, false),
            }
        }
        if wire.is_empty() {
            return (found, false, decoder.is_partial());
        }
        let size = sizes.next().map_or(usize::MAX, |size| usize::from(*size) + 1);
        let (piece, rest) = wire.split_at(size.min(wire.len()));
        decoder.feed(piece);
        wire = rest;
        received += piece.len();
        assert!(decoder.capacity() <= 2 * received + 128, "memory for what arrived");
    }
}

/// What was understood is encoded to the bytes it came from; words that are no text excepted.
fn encode_again(wire: &[u8], (frames, failed, partial): &Frames) {
    let mut at = 0;
    for frame in frames {
        let mut encoded = frame.head();
        match frame {
            Frame::Message { body, .. } => encoded.extend_from_slice(body),
            Frame::Ack { error: Some(words), .. } if !words.contains('\u{fffd}') => {}
            Frame::Ack { .. } => {
                // Words that are no text, or that no flag announced.
                let len = &wire[at + 4..at + 8];
                at += 16 + u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
                continue;
            }
        }
        assert_eq!(encoded, wire[at..at + encoded.len()]);
        at += encoded.len();
    }
    assert_eq!(at < wire.len(), *failed || *partial);
}
