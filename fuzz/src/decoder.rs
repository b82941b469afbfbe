//! The decoder finds the same frames however the bytes are split, allocates nothing, and agrees
//! with a naive one (`spec.md §2.11`).

use trunkline::frame::{Decoder, HeaderError, Piece};

use super::{
    cursor::Cursor,
    memory,
    naive::{self, Fields, Malformed, Parsed},
};

/// The first byte says how many bytes of sizes follow; the rest is the wire.
pub fn decoder(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let count = usize::from(cursor.u8() % 32);
    let sizes = cursor.bytes(count).to_vec();
    let wire = cursor.rest();
    let naive = naive::parse(wire);
    assert_eq!(decode(wire, &[]), naive, "in one piece");
    assert_eq!(decode(wire, &[0]), naive, "byte by byte");
    if !sizes.is_empty() {
        assert_eq!(decode(wire, &sizes), naive, "in pieces of {sizes:?} + 1");
    }
    decode_allocates_nothing(wire);
}

/// Decodes `wire` in pieces of `sizes` plus one, over and over; no sizes mean one piece.
pub(crate) fn decode(mut wire: &[u8], sizes: &[u8]) -> Parsed {
    let mut decoder = Decoder::new();
    let mut parsed = Parsed::default();
    let mut sizes = sizes.iter().cycle();
    let total = wire.len();
    while !wire.is_empty() {
        let size = sizes.next().map_or(wire.len(), |size| usize::from(*size) + 1);
        let (mut piece, rest) = wire.split_at(size.min(wire.len()));
        wire = rest;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(Piece::Header(header))) => {
                    let fields = Fields {
                        kind: header.kind as u8,
                        flags: header.flags.0,
                        stream: header.stream.0,
                        length: header.length,
                    };
                    parsed.frames.push((fields, Vec::new()));
                }
                Ok(Some(Piece::Body(body))) => {
                    assert!(!body.is_empty(), "an empty piece");
                    parsed.frames.last_mut().expect("a header").1.extend_from_slice(body);
                }
                Ok(None) => break,
                Err(error) => {
                    parsed.malformed = Some(match error {
                        HeaderError::UnsupportedVersion(version) => Malformed::Version(version),
                        HeaderError::UnknownKind(kind) => Malformed::Kind(kind),
                    });
                    return parsed;
                }
            }
        }
        assert!(piece.is_empty(), "more was wanted while some was left");
    }
    parsed.missing = decoder.body_left() as usize;
    let found: usize = parsed.frames.iter().map(|(_, body)| 12 + body.len()).sum();
    parsed.partial = total - found;
    assert_eq!(decoder.at_boundary(), parsed.partial == 0 && parsed.missing == 0);
    parsed
}

fn decode_allocates_nothing(wire: &[u8]) {
    let before = memory::allocations();
    let mut decoder = Decoder::new();
    let mut rest = wire;
    while let Ok(Some(_)) = decoder.decode(&mut rest) {}
    assert_eq!(memory::allocations(), before, "the decoder allocated");
}
