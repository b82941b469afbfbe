//! A peer that sends anything: frames whole and broken, many alike, and bytes that are none.

use trunkline::{Role, frame::Kind};

use super::{
    super::{
        cursor::Cursor,
        naive::{DATA, Fields, Malformed, PING, Splitter, WINDOW_SIZE},
    },
    MAX_PIECE,
};

pub(super) struct Player {
    /// Of the core that it plays against.
    role: Role,
    /// What it sent so far, header by header.
    splitter: Splitter,
    /// Every body was filled as [`fill`] says.
    pure: bool,
    piece: usize,
    fresh: u32,
}

impl Player {
    pub(super) fn new(role: Role) -> Self {
        Self { role, splitter: Splitter::default(), pure: true, piece: MAX_PIECE, fresh: 0 }
    }

    /// The byte that every body of a stream consists of, as long as that is so.
    pub(super) fn fill(&self, id: u32) -> Option<u8> {
        self.pure.then(|| fill(id))
    }

    /// Bytes of the current body still to come; `None` within a header or after a malformed one.
    pub(super) fn missing(&self) -> Option<usize> {
        self.splitter.missing()
    }

    /// From now on the IO reads that many bytes at a time.
    pub(super) fn cut(&mut self, piece: u16) {
        self.piece = usize::from(piece).max(1);
    }

    /// The pieces in which the IO reads `wire`.
    pub(super) fn pieces<'a>(&self, wire: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        wire.chunks(self.piece.max(wire.len() / 256).min(MAX_PIECE))
    }

    /// The core is about to read `piece`; calls `found` with every header that it completes.
    pub(super) fn sends(&mut self, piece: &[u8], found: impl FnMut(Result<Fields, Malformed>)) {
        self.splitter.push(piece, found);
    }

    pub(super) fn frame(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let frame = self.choose(cursor);
        self.whole(frame)
    }

    pub(super) fn whole(&mut self, frame: Fields) -> Vec<u8> {
        let mut wire = Vec::new();
        push_whole(&mut wire, frame);
        self.note(frame);
        wire
    }

    /// The same frame over and over, each for the next id, or all for one.
    pub(super) fn many(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let mut frame = self.choose(cursor);
        let count = usize::from(cursor.u16() % 16_385);
        let stride = cursor.pick(&[0, 2, 1, 4, 0x1_0000]);
        let size = 12 + frame.body().min(MAX_BODY);
        let mut wire = Vec::new();
        for _ in 0..count.min(1 + (1 << 20) / size) {
            push_whole(&mut wire, frame);
            frame.stream = frame.stream.wrapping_add(stride);
            if frame.kind == PING {
                frame.length = frame.length.wrapping_add(stride);
            }
        }
        self.note(frame);
        wire
    }

    /// Frames like `frame` are sent.
    fn note(&mut self, frame: Fields) {
        // Unless a body is left open, or they land in one.
        self.pure &= frame.body() <= MAX_BODY && self.splitter.missing() == Some(0);
    }

    pub(super) fn raw<'a>(&mut self, cursor: &mut Cursor<'a>) -> &'a [u8] {
        let len = usize::from(cursor.u8());
        self.pure = false;
        cursor.bytes(len)
    }

    /// One byte, over and over.
    pub(super) fn noise(&mut self, cursor: &mut Cursor<'_>) -> Vec<u8> {
        let len = usize::from(cursor.u16());
        self.pure = false;
        vec![cursor.u8(); len]
    }

    /// What the last header announced and did not come, within reason.
    pub(super) fn rest_of_body(&self) -> Vec<u8> {
        match self.splitter.missing() {
            Some(missing @ 1..=MAX_BODY) => vec![0; missing],
            _ => Vec::new(),
        }
    }

    fn choose(&mut self, cursor: &mut Cursor<'_>) -> Fields {
        let kind = cursor.u8() % 4;
        let flags = match cursor.u8() {
            flags @ 0..=0x3f => u16::from(flags & 15),
            flags => u16::from(flags) << 4 | u16::from(flags & 15),
        };
        let stream = match cursor.u8() {
            255 => cursor.u32(),
            254 => u32::MAX,
            253 => u32::MAX - 1,
            // The next id that the peer may open.
            252 => {
                self.fresh += 2;
                self.fresh + u32::from(self.role == Role::Server) - 2 + 64
            }
            small => u32::from(small % 32),
        };
        let length = match cursor.u8() {
            255 => cursor.u32(),
            other => LENGTHS[usize::from(other) % LENGTHS.len()],
        };
        Fields { kind, flags, stream, length }
    }
}

/// A header, with all of its body unless that is very long.
fn push_whole(wire: &mut Vec<u8>, frame: Fields) {
    wire.extend(frame.wire());
    if frame.body() <= MAX_BODY {
        wire.resize(wire.len() + frame.body(), fill(frame.stream));
    }
}

/// The byte that fills every body of a stream.
const fn fill(id: u32) -> u8 {
    (id as u8).wrapping_mul(31).wrapping_add(7)
}

/// A longer body is announced only.
const MAX_BODY: usize = 300_000;

/// Lengths at which something changes.
pub(crate) const LENGTHS: [u32; 20] = [
    0,
    1,
    2,
    12,
    1_000,
    4_095,
    4_096,
    16_383,
    16_384,
    65_536,
    131_072,
    262_143,
    262_144,
    262_145,
    300_000,
    0x7fff_ffff,
    u32::MAX - WINDOW_SIZE,
    u32::MAX - WINDOW_SIZE + 1,
    u32::MAX,
    100,
];

const _: () = assert!(Kind::Data as u8 == DATA);
