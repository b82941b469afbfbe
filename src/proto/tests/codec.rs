//! Headers, frames and the decoder.

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::wire::{ACK, FIN, NONE, RST, SYN, Wire, data, encode, go_away, hex, ping, update};
use crate::{
    StreamId, Violation,
    frame::{Decoder, Flags, Frame, Header, HeaderError, Kind, Piece},
};

impl Arbitrary for Frame {
    fn arbitrary(g: &mut Gen) -> Self {
        let stream = StreamId(u32::arbitrary(g));
        let flags = Flags(u16::arbitrary(g));
        match u8::arbitrary(g) % 4 {
            0 => Self::Data { stream, flags, body: Vec::<u8>::arbitrary(g).into() },
            1 => Self::WindowUpdate { stream, flags, delta: u32::arbitrary(g) },
            2 => Self::Ping { flags, value: u32::arbitrary(g) },
            _ => Self::GoAway { code: u32::arbitrary(g) },
        }
    }
}

/// All rounds where there is time for them, else a twentieth.
fn rounds(all: u64) -> u64 {
    if std::env::var_os("TRUNKLINE_THOROUGH").is_some() { all } else { all / 20 }
}

/// The frames, the error that ended them, and whether the end is between two frames.
type Decoded = (Vec<(Header, Vec<u8>)>, Option<HeaderError>, bool);

/// All frames in `wire`, given to the decoder in pieces of the lengths in `cuts`, over and over.
fn decode(wire: &[u8], cuts: &[usize]) -> Decoded {
    let mut decoder = Decoder::new();
    let mut frames: Vec<(Header, Vec<u8>)> = Vec::new();
    let (mut rest, mut turn) = (wire, 0);
    while !rest.is_empty() {
        let len = cuts.get(turn % cuts.len().max(1)).map_or(rest.len(), |cut| *cut.max(&1));
        turn += 1;
        let (mut piece, later) = rest.split_at(len.min(rest.len()));
        rest = later;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(Piece::Header(header))) => frames.push((header, Vec::new())),
                Ok(Some(Piece::Body(body))) => {
                    assert!(!body.is_empty(), "a piece of a body is never empty");
                    frames.last_mut().unwrap().1.extend_from_slice(body);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error), false),
            }
        }
        assert!(piece.is_empty(), "the decoder wants more but left something");
    }
    (frames, None, decoder.at_boundary())
}

// spec.md §2.1, §2.12
#[test]
fn the_worked_examples_are_what_they_say() {
    let examples = [
        ("00 01 0001 00000001 00000000", update(1, SYN, 0)),
        ("00 00 0001 00000001 00000002 6869", data(1, SYN, "hi")),
        ("00 01 0002 00000001 00000000", update(1, ACK, 0)),
        ("00 01 0002 00000001 000C0000", update(1, ACK, 786_432)),
        ("00 00 0002 00000001 00000002 796F", data(1, ACK, "yo")),
        ("00 01 0000 00000001 00020000", update(1, NONE, 131_072)),
        ("00 00 0004 00000001 00000000", data(1, FIN, "")),
        ("00 01 0008 00000003 00000004", update(3, RST, 4)),
        ("00 02 0001 00000000 0000002A", ping(SYN, 42)),
        ("00 02 0002 00000000 0000002A", ping(ACK, 42)),
        ("00 03 0000 00000000 00000000", go_away(0)),
        ("00 03 0000 00000000 00000001", go_away(1)),
    ];
    for (wire, frame) in examples {
        assert_eq!(frame.to_bytes(), hex(wire), "{frame:?}");
        let (frames, error, whole) = decode(&hex(wire), &[]);
        assert_eq!((error, whole), (None, true));
        assert_eq!(frames[0].0, frame.header());
    }
}

// spec.md §2.1
#[test]
fn every_header_survives_encoding() {
    fn holds(frame: Frame) -> bool {
        let header = frame.header();
        Header::decode(&header.encode()) == Ok(header)
    }
    QuickCheck::new().tests(rounds(20_000)).quickcheck(holds as fn(Frame) -> bool);
}

// spec.md §2, §3: frames one after the other, cut anywhere.
#[test]
fn every_frame_is_taken_off_the_front_once_it_is_whole() {
    fn holds(frames: Vec<Frame>, cut: usize) -> bool {
        let wire = encode(&frames);
        let cut = cut % (wire.len() + 1);
        let (mut found, mut input) = (Vec::new(), &wire[..cut]);
        while let Some(frame) = Frame::decode(&mut input).unwrap() {
            found.push(frame);
        }
        let taken = cut - input.len();
        let mut rest = &wire[taken..];
        let next = Frame::decode(&mut rest).unwrap();
        found == frames[..found.len()]
            && taken == encode(&found).len()
            && next.as_ref() == frames.get(found.len())
            && (next.is_some() || rest.is_empty())
    }
    QuickCheck::new().tests(rounds(6_000)).quickcheck(holds as fn(Vec<Frame>, usize) -> bool);
    let malformed = Frame::decode(&mut &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]);
    assert_eq!(malformed, Err(HeaderError::UnknownKind(9)));
    assert_eq!(Frame::decode(&mut &[0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 7][..]), Ok(None));
}

#[test]
fn flags_are_shown_by_name_and_unknown_ones_by_number() {
    let shown = |bits: u16| Flags(bits).to_string();
    assert_eq!(
        [shown(0), shown(5), shown(0x10), shown(0x8003)],
        ["", "SYN|FIN", "0x10", "SYN|ACK|0x8000"]
    );
}

// spec.md §2.2, §2.3, §9.3.1: every twelve bytes are a header or one of two errors.
#[test]
fn any_twelve_bytes_decode_to_themselves_or_to_an_error() {
    fn holds(seed: Vec<u8>) -> bool {
        let mut bytes = [0; 12];
        for (to, from) in bytes.iter_mut().zip(&seed) {
            *to = *from;
        }
        bytes[0] %= 2;
        bytes[1] %= 6;
        match Header::decode(&bytes) {
            Ok(header) => header.encode() == bytes && bytes[0] == 0 && bytes[1] < 4,
            Err(HeaderError::UnsupportedVersion(version)) => version == bytes[0] && version != 0,
            Err(HeaderError::UnknownKind(kind)) => bytes[0] == 0 && kind == bytes[1] && kind > 3,
        }
    }
    QuickCheck::new().tests(rounds(40_000)).quickcheck(holds as fn(Vec<u8>) -> bool);
}

// spec.md §2.3: version is checked before kind.
#[test]
fn version_is_looked_at_before_kind() {
    let mut bytes = [0; 12];
    bytes[1] = 4;
    assert_eq!(Header::decode(&bytes), Err(HeaderError::UnknownKind(4)));
    bytes[0] = 1;
    assert_eq!(Header::decode(&bytes), Err(HeaderError::UnsupportedVersion(1)));
}

// spec.md §2.6
#[test]
fn only_data_has_a_body() {
    for kind in [Kind::WindowUpdate, Kind::Ping, Kind::GoAway] {
        let header = Header { kind, flags: NONE, stream: StreamId(1), length: 0xFFFF };
        assert_eq!(header.body_len(), 0);
    }
    let wire = encode(&[update(1, NONE, 0xFFFF), ping(SYN, 7)]);
    let (frames, error, whole) = decode(&wire, &[]);
    assert_eq!((frames.len(), error, whole), (2, None, true));
    assert_eq!(frames[1].0, ping(SYN, 7).header());
}

// spec.md §2.11
#[test]
fn frames_decode_the_same_however_they_are_split() {
    fn holds(frames: Vec<Frame>, cuts: Vec<usize>) -> bool {
        let wire = encode(&frames);
        let cuts: Vec<_> = cuts.iter().map(|cut| cut % 40).collect();
        let expected: Vec<_> = frames
            .iter()
            .map(|frame| match frame {
                Frame::Data { body, .. } => (frame.header(), body.to_vec()),
                _ => (frame.header(), Vec::new()),
            })
            .collect();
        decode(&wire, &cuts) == (expected, None, true)
    }
    QuickCheck::new().tests(rounds(6_000)).quickcheck(holds as fn(Vec<Frame>, Vec<usize>) -> bool);
}

// spec.md §2.11: every place at which a session can be cut in two.
#[test]
fn a_decoder_may_be_cut_at_every_byte() {
    let wire = encode(&[
        data(1, SYN, "hello"),
        update(1, NONE, 9),
        data(1, NONE, ""),
        ping(SYN, 1),
        data(1, FIN, "bye"),
        go_away(0),
    ]);
    let whole = decode(&wire, &[]);
    assert_eq!(whole.0.len(), 6);
    for cut in 1..wire.len() {
        assert_eq!(decode(&wire, &[cut, wire.len()]), whole, "cut at {cut}");
    }
    assert_eq!(decode(&wire, &[1]), whole, "byte by byte");
}

// spec.md §9.3.1
#[test]
fn the_decoder_is_total() {
    fn holds(mut wire: Vec<u8>, cuts: Vec<usize>) -> bool {
        // Half of the time a beginning that is a frame.
        if wire.len().is_multiple_of(2) {
            wire.splice(0..0, [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5]);
        }
        let cuts: Vec<_> = cuts.iter().map(|cut| cut % 17).collect();
        decode(&wire, &cuts) == decode(&wire, &[])
    }
    QuickCheck::new().tests(rounds(40_000)).quickcheck(holds as fn(Vec<u8>, Vec<usize>) -> bool);
}

// spec.md §2.11: a session is the same, however its bytes are split.
#[test]
fn a_session_may_be_cut_at_every_byte() {
    let input = encode(&[
        ping(SYN, 5),
        data(1, SYN, "question"),
        update(3, SYN, 1),
        data(1, FIN, "?"),
        update(3, RST, 9),
        update(5, SYN, 0),
        data(5, NONE, "late"),
    ]);
    let outcome = |cut: usize| {
        let mut wire = Wire::server();
        wire.feed_bytes(input[..cut].to_vec());
        wire.feed_bytes(input[cut..].to_vec());
        let first = wire.accept();
        let second = wire.accept();
        let streams = (wire.drain(first), wire.drain(second), wire.core.accept());
        (streams, wire.sent_bytes(), wire.core.stats())
    };
    let whole = outcome(0);
    assert_eq!(whole.0.0.0, b"question?");
    assert_eq!(whole.0.1.0, b"late");
    for cut in 1..input.len() {
        assert_eq!(outcome(cut), whole, "cut at {cut}");
    }
}

// spec.md §2.11, §5.4.1: a length that was only announced costs nothing.
#[test]
fn an_announced_length_allocates_nothing() {
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, 0)]);
    wire.feed_bytes(hex("00 00 0000 00000001 00040000"));
    assert_eq!(wire.core.stats().buffered, 0);
    assert_eq!(wire.core.ended(), None);
    let mut wire = Wire::server();
    wire.feed(&[update(1, SYN, 0)]);
    wire.feed_bytes(hex("00 00 0000 00000001 FFFFFFFF"));
    wire.expect_violation(Violation::WindowExceeded);
}

// spec.md §2.8: unknown flags are ignored; `00F2` acts as ACK.
#[test]
fn unknown_flags_are_ignored() {
    let mut wire = Wire::client();
    wire.open();
    assert_eq!(wire.core.stats().ack_backlog, 1);
    wire.feed_bytes(hex("00 01 00F2 00000001 00000000"));
    assert_eq!(wire.core.stats().ack_backlog, 0);
    wire.expect_alive();
}

// spec.md §9.3.1: whatever arrives, the core neither panics nor goes on for ever.
#[test]
fn no_input_makes_the_core_panic() {
    fn holds(frames: Vec<Frame>, noise: Vec<u8>, client: bool) -> bool {
        let mut wire = if client { Wire::client() } else { Wire::server() };
        wire.open();
        for mut frame in frames {
            // Ids and flags of which something comes.
            match &mut frame {
                Frame::Data { stream, flags, .. } | Frame::WindowUpdate { stream, flags, .. } => {
                    stream.0 = stream.0 % 6 + 1;
                    flags.0 &= 15;
                }
                Frame::Ping { .. } | Frame::GoAway { .. } => {}
            }
            wire.feed(&[frame]);
            if wire.core.accept().is_some() {
                wire.sent_bytes();
            }
        }
        wire.feed_bytes(Bytes::from(noise));
        wire.sent_bytes();
        wire.millis(100);
        wire.core.handle_eof(wire.now);
        wire.sent_bytes();
        wire.core.ended().is_some()
    }
    let holds = holds as fn(Vec<Frame>, Vec<u8>, bool) -> bool;
    QuickCheck::new().tests(rounds(10_000)).quickcheck(holds);
}
