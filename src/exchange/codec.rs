//! Messages as bytes (`spec.md §14.2`), without IO.

use std::fmt;

use bytes::{Buf, Bytes};

use super::partial::Partial;
use crate::recycle::Memory;

/// What a message is (`spec.md §14.2.3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Asks for something.
    Request = 1,
    /// Answers.
    Response = 2,
    /// One message of a series.
    Message = 3,
    /// Ends the exchange with a [`Code`](super::Code) and some words instead of an answer.
    Error = 4,
}

impl Kind {
    const fn parse(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Request),
            2 => Some(Self::Response),
            3 => Some(Self::Message),
            4 => Some(Self::Error),
            _ => None,
        }
    }
}

/// One unit of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// Its content, up to the `max_message` of the exchange.
    pub body: Bytes,
}

impl Message {
    /// A message of this kind with this body.
    pub fn new(kind: Kind, body: impl Into<Bytes>) -> Self {
        Self { kind, body: body.into() }
    }
}

pub(crate) const HEADER: usize = 8;
pub(crate) const TTL: usize = 4;
const MORE: u8 = 1;
const HAS_TTL: u8 = 2;

/// The header of a fragment, with its time to live where it has one.
pub(crate) fn put_header(out: &mut Vec<u8>, kind: Kind, more: bool, ttl: Option<u32>, len: usize) {
    let at = out.len();
    leave_header(out, ttl);
    patch_header(&mut out[at..], kind, more, ttl.is_some(), len);
}

/// Room for a header, which is to be patched once its length is known.
pub(crate) fn leave_header(out: &mut Vec<u8>, ttl: Option<u32>) {
    out.extend_from_slice(&[0; HEADER]);
    if let Some(ttl) = ttl {
        out.extend_from_slice(&ttl.to_be_bytes());
    }
}

/// Fills in a header that was left room for; `len` is that of the body alone.
pub(crate) fn patch_header(at: &mut [u8], kind: Kind, more: bool, has_ttl: bool, len: usize) {
    let flags = u8::from(more) * MORE + u8::from(has_ttl) * HAS_TTL;
    let length = len + usize::from(has_ttl) * TTL;
    at[..4].copy_from_slice(&[kind as u8, flags, 0, 0]);
    // A fragment is at most 16 MiB.
    at[4..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
}

/// Appends a message to `out`, in fragments of at most `fragment` bytes (1 to 16 MiB), the first
/// with `ttl`, a time to live in milliseconds. For tools and tests: an
/// [`Exchange`](super::Exchange) does not copy large bodies.
///
/// ```
/// use trunkline::exchange::{Decoder, Kind, Message, encode};
///
/// let mut bytes = Vec::new();
/// encode(&Message::new(Kind::Request, "hello"), None, 1_024, &mut bytes);
/// let mut decoder = Decoder::new(4 << 20, true);
/// let message = decoder.decode(&mut bytes.into())?.ok_or("cut short")?;
/// assert_eq!(message.body, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(message: &Message, ttl: Option<u32>, fragment: usize, out: &mut Vec<u8>) {
    let fragment = fragment.clamp(1, super::config::MAX_FRAGMENT);
    let mut rest = &message.body[..];
    let mut ttl = ttl;
    loop {
        let (part, more) = rest.split_at(rest.len().min(fragment));
        put_header(out, message.kind, !more.is_empty(), ttl.take(), part.len());
        out.extend_from_slice(part);
        rest = more;
        if rest.is_empty() {
            return;
        }
    }
}

/// Finds the messages in what was received. What it allocates depends on the bytes that have
/// arrived, never on a length that was announced (`spec.md §14.2.7`).
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    /// Whether the next fragment may carry a time to live.
    first: bool,
    expects_ttl: bool,
    ttl: Option<u32>,
    header: [u8; HEADER + TTL],
    filled: usize,
    /// The fragment that is arriving, once its header has.
    fragment: Option<Fragment>,
    /// The kind of the message that is arriving.
    kind: Option<Kind>,
    /// What is there of its body, where that does not lie in one piece.
    body: Option<Box<Partial>>,
}

#[derive(Clone, Copy, Debug)]
struct Fragment {
    left: usize,
    more: bool,
}

impl Decoder {
    /// A decoder for one direction of an exchange, for messages of up to `max_message` bytes.
    /// `from_opener` says whose direction it is: only the opener's first message may carry a time
    /// to live.
    #[must_use]
    pub fn new(max_message: usize, from_opener: bool) -> Self {
        Self {
            max_message,
            first: true,
            expects_ttl: from_opener,
            ttl: None,
            header: [0; HEADER + TTL],
            filled: 0,
            fragment: None,
            kind: None,
            body: None,
        }
    }

    /// The time to live in milliseconds that came with the first message.
    #[must_use]
    pub const fn ttl(&self) -> Option<u32> {
        self.ttl
    }

    pub(super) const fn take_ttl(&mut self) -> Option<u32> {
        self.ttl.take()
    }

    /// Whether no message is in the middle of arriving, so that the stream may end here.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.filled == 0 && self.fragment.is_none() && self.kind.is_none()
    }

    /// Takes bytes from the front of `input` until a message is complete. `None` if all of `input`
    /// was taken and more is needed. A message that lies in one piece is not copied.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; nothing more can be decoded after it.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Message>, Malformed> {
        self.decode_into(input, None)
    }

    /// As [`decode`](Self::decode), with memory for large messages.
    pub(crate) fn decode_into(
        &mut self,
        input: &mut Bytes,
        memory: Option<&Memory>,
    ) -> Result<Option<Message>, Malformed> {
        loop {
            if self.fragment.is_none() && !self.take_header(input)? {
                return Ok(None);
            }
            let (Some(fragment), Some(kind)) = (self.fragment, self.kind) else { return Ok(None) };
            let Fragment { left, more } = fragment;
            if input.len() < left {
                // All of it belongs to a fragment that goes on.
                if !input.is_empty() {
                    let left = left - input.len();
                    self.body_mut().push(input, left, more, memory);
                    self.fragment = Some(Fragment { left, more });
                    *input = Bytes::new();
                }
                return Ok(None);
            }
            // As a rule that is all there is.
            let whole = input.len() == left;
            let part = if whole { std::mem::take(input) } else { input.split_to(left) };
            self.fragment = None;
            if more {
                self.body_mut().push(&part, 0, more, memory);
                continue;
            }
            self.kind = None;
            let body = match self.body.take() {
                None => part,
                Some(mut body) => {
                    body.push(&part, 0, more, memory);
                    body.take(memory)
                }
            };
            return Ok(Some(Message { kind, body }));
        }
    }

    fn body_mut(&mut self) -> &mut Partial {
        self.body.get_or_insert_default()
    }

    /// Whether the header of the next fragment is there.
    fn take_header(&mut self, input: &mut Bytes) -> Result<bool, Malformed> {
        // As a rule it lies in one piece, and is right.
        if self.filled == 0
            && let Some(header) = input.first_chunk()
            && self.check_header(header).is_ok()
            && let taken = if has_ttl(header) { HEADER + TTL } else { HEADER }
            && let Some(header) = input.get(..taken)
            && self.begin_fragment(header).is_ok()
        {
            input.advance(taken);
            return Ok(true);
        }
        self.collect_header(input)
    }

    /// The same for one that comes in pieces, or is wrong: then it stays so, whatever follows.
    #[cold]
    fn collect_header(&mut self, input: &mut Bytes) -> Result<bool, Malformed> {
        if self.filled < HEADER && !self.fill(input, HEADER) {
            return Ok(false);
        }
        let header = self.header;
        if self.filled == HEADER
            && let Some(header) = header.first_chunk()
        {
            self.check_header(header)?;
        }
        let has_ttl = has_ttl(&header);
        if has_ttl && !self.fill(input, HEADER + TTL) {
            return Ok(false);
        }
        let header = self.header;
        self.begin_fragment(&header[..self.filled])?;
        self.filled = 0;
        Ok(true)
    }

    /// A header that was checked, with the time to live that it has.
    fn begin_fragment(&mut self, header: &[u8]) -> Result<(), Malformed> {
        let [kind, flags, _, _, l0, l1, l2, l3, ttl @ ..] = header else { return Ok(()) };
        let mut left = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
        if let Some(ttl) = ttl.first_chunk() {
            let ttl = u32::from_be_bytes(*ttl);
            if ttl == 0 {
                return Err(Malformed::ZeroTtl);
            }
            self.ttl = Some(ttl);
            left = left.saturating_sub(TTL);
        }
        self.first = false;
        self.kind = Kind::parse(*kind);
        self.fragment = Some(Fragment { left, more: flags & MORE != 0 });
        Ok(())
    }

    /// Takes what is missing of the first `len` bytes of a header; whether that is there.
    fn fill(&mut self, input: &mut Bytes, len: usize) -> bool {
        let taken = input.len().min(len - self.filled);
        self.header[self.filled..self.filled + taken].copy_from_slice(&input[..taken]);
        input.advance(taken);
        self.filled += taken;
        self.filled == len
    }

    /// Every rule that a header can break, before a byte of the body is looked at.
    fn check_header(&self, header: &[u8; HEADER]) -> Result<(), Malformed> {
        let [kind, flags, r0, r1, l0, l1, l2, l3] = *header;
        let Some(parsed) = Kind::parse(kind) else { return Err(Malformed::UnknownKind(kind)) };
        if flags & !(MORE | HAS_TTL) != 0 {
            return Err(Malformed::UnknownFlags(flags));
        }
        if [r0, r1] != [0, 0] {
            return Err(Malformed::Reserved(u16::from_be_bytes([r0, r1])));
        }
        if self.kind.is_some_and(|begun| begun != parsed) {
            return Err(Malformed::KindChanged);
        }
        let mut len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if flags & HAS_TTL != 0 {
            if !self.first || !self.expects_ttl {
                return Err(Malformed::StrayTtl);
            }
            let Some(rest) = len.checked_sub(TTL) else { return Err(Malformed::ShortTtl) };
            len = rest;
        }
        if len == 0 && flags & MORE != 0 {
            return Err(Malformed::EmptyFragment);
        }
        let total = len.saturating_add(self.body.as_ref().map_or(0, |body| body.len()));
        if total > self.max_message {
            return Err(Malformed::TooLarge { announced: total, max: self.max_message });
        }
        Ok(())
    }
}

const fn has_ttl(header: &[u8]) -> bool {
    matches!(header, [_, flags, ..] if *flags & HAS_TTL != 0)
}

/// What is wrong with the bytes of an exchange (`spec.md §14.2.8`). It ends that exchange only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// A kind that is not defined.
    UnknownKind(u8),
    /// A flag that is not defined.
    UnknownFlags(u8),
    /// The reserved bytes, which must be zero, are not.
    Reserved(u16),
    /// The fragments of one message differ in kind.
    KindChanged,
    /// A fragment that carries nothing, with more to follow.
    EmptyFragment,
    /// A time to live elsewhere than in the opener's first message.
    StrayTtl,
    /// A length too short for the time to live.
    ShortTtl,
    /// A time to live of zero.
    ZeroTtl,
    /// A message longer than the maximum, as far as it was announced.
    TooLarge {
        /// Bytes so far, with the fragment that was announced.
        announced: usize,
        /// The limit.
        max: usize,
    },
    /// The stream was finished in the middle of a message.
    CutShort,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "unknown message kind {kind}"),
            Self::UnknownFlags(flags) => write!(f, "unknown message flags {flags:#04x}"),
            Self::Reserved(value) => write!(f, "reserved bytes are {value:#06x}, not zero"),
            Self::KindChanged => f.write_str("the kind changed in the middle of a message"),
            Self::EmptyFragment => f.write_str("an empty fragment with more to follow"),
            Self::StrayTtl => f.write_str("a time to live outside of the first message"),
            Self::ShortTtl => f.write_str("a length too short for its time to live"),
            Self::ZeroTtl => f.write_str("a time to live of zero"),
            Self::TooLarge { announced, max } => {
                write!(f, "a message of {announced} bytes or more, where {max} are the most")
            }
            Self::CutShort => f.write_str("the end in the middle of a message"),
        }
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_all(
        wire: &[u8],
        piece: usize,
        max: usize,
    ) -> Result<(Vec<Message>, Decoder), Malformed> {
        let mut decoder = Decoder::new(max, true);
        let mut found = Vec::new();
        for part in wire.chunks(piece.max(1)) {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(message) = decoder.decode(&mut input)? {
                found.push(message);
            }
            assert!(input.is_empty());
        }
        Ok((found, decoder))
    }

    #[test]
    fn worked_examples() {
        // spec.md §14.2.9
        let mut wire = Vec::new();
        encode(&Message::new(Kind::Request, "hi"), Some(1_500), 1_024, &mut wire);
        assert_eq!(wire, [1, 2, 0, 0, 0, 0, 0, 6, 0, 0, 0x05, 0xdc, b'h', b'i']);
        wire.clear();
        encode(&Message::new(Kind::Message, "abc"), None, 2, &mut wire);
        assert_eq!(wire, *b"\x03\x01\0\0\0\0\0\x02ab\x03\0\0\0\0\0\0\x01c");
        wire.clear();
        encode(&Message::new(Kind::Response, ""), None, 2, &mut wire);
        assert_eq!(wire, [2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn messages_survive_every_fragment_size_and_every_split() {
        quickcheck::quickcheck(round_trip as fn(Vec<Vec<u8>>, u8, u8, Option<u16>) -> bool);
    }

    fn round_trip(bodies: Vec<Vec<u8>>, fragment: u8, piece: u8, ttl: Option<u16>) -> bool {
        let kinds = [Kind::Request, Kind::Response, Kind::Message, Kind::Error];
        let messages: Vec<_> = bodies
            .into_iter()
            .zip(kinds.iter().cycle())
            .map(|(b, k)| Message::new(*k, b))
            .collect();
        let ttl = ttl.map(|ttl| u32::from(ttl) + 1);
        let mut wire = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            encode(message, ttl.filter(|_| index == 0), fragment.into(), &mut wire);
        }
        let (found, decoder) = decode_all(&wire, piece.into(), 1 << 20).unwrap();
        let ttl = ttl.filter(|_| !messages.is_empty());
        found == messages && decoder.at_boundary() && decoder.ttl() == ttl
    }

    #[test]
    fn fragments_fit_exactly_or_one_byte_off() {
        for (len, headers) in [(0, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let mut wire = Vec::new();
            encode(&Message::new(Kind::Message, vec![7; len]), None, 10, &mut wire);
            assert_eq!(wire.len(), len + 8 * headers, "{len} bytes");
            assert_eq!(decode_all(&wire, 3, 21).unwrap().0[0].body.len(), len);
        }
    }

    #[test]
    fn each_rule_has_its_own_error() {
        // spec.md §14.2.8
        let cases: [(&[u8], Malformed); 10] = [
            (&[0, 0, 0, 0, 0, 0, 0, 0], Malformed::UnknownKind(0)),
            (&[5, 0, 0, 0, 0, 0, 0, 0], Malformed::UnknownKind(5)),
            (&[1, 4, 0, 0, 0, 0, 0, 0], Malformed::UnknownFlags(4)),
            (&[1, 0, 0, 1, 0, 0, 0, 0], Malformed::Reserved(1)),
            (&[1, 1, 0, 0, 0, 0, 0, 1, 9, 2, 0, 0, 0, 0, 0, 0, 0], Malformed::KindChanged),
            (&[1, 1, 0, 0, 0, 0, 0, 0], Malformed::EmptyFragment),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 4], Malformed::StrayTtl),
            (&[1, 2, 0, 0, 0, 0, 0, 3], Malformed::ShortTtl),
            (&[1, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0], Malformed::ZeroTtl),
            (
                &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
                Malformed::TooLarge { announced: 0xffff_ffff, max: 100 },
            ),
        ];
        for (wire, error) in cases {
            for piece in 1..=wire.len() {
                assert_eq!(decode_all(wire, piece, 100).unwrap_err(), error, "{wire:?}");
            }
            // Whoever asks again is told again, whatever follows.
            let mut decoder = Decoder::new(100, true);
            let mut input = Bytes::copy_from_slice(wire);
            let first = std::iter::repeat_with(|| decoder.decode(&mut input)).find(Result::is_err);
            assert_eq!(first, Some(Err(error)));
            let mut more = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 1, 9]);
            assert_eq!(decoder.decode(&mut more), Err(error), "{wire:?}");
        }
    }

    #[test]
    fn the_maximum_counts_all_fragments() {
        let mut wire = Vec::new();
        encode(&Message::new(Kind::Message, vec![1; 100]), None, 30, &mut wire);
        assert_eq!(decode_all(&wire, 7, 100).unwrap().0.len(), 1);
        let error = decode_all(&wire, 7, 99).unwrap_err();
        assert_eq!(error, Malformed::TooLarge { announced: 100, max: 99 });
    }

    #[test]
    fn the_end_may_come_between_messages_alone() {
        // spec.md §14.1.3
        let mut wire = Vec::new();
        let mut ends = vec![0];
        for (body, ttl) in [("abcd", Some(9)), ("", None), ("xyz", None)] {
            encode(&Message::new(Kind::Message, body), ttl, 2, &mut wire);
            ends.push(wire.len());
        }
        for cut in 0..=wire.len() {
            let (_, decoder) = decode_all(&wire[..cut], 3, 100).unwrap();
            assert_eq!(decoder.at_boundary(), ends.contains(&cut), "after {cut} bytes");
        }
    }

    #[test]
    fn only_the_opener_sets_a_time_to_live() {
        let mut decoder = Decoder::new(100, false);
        let mut input = Bytes::from_static(&[2, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9]);
        assert_eq!(decoder.decode(&mut input), Err(Malformed::StrayTtl));
    }

    #[test]
    fn a_promise_of_much_allocates_one_chunk() {
        let mut decoder = Decoder::new(usize::MAX, true);
        let mut input = Bytes::from_static(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert_eq!(decoder.decode(&mut input), Ok(None));
        let capacity = decoder.body.unwrap().capacity();
        assert!(capacity <= 2 * super::super::partial::CHUNK, "{capacity}");
    }
}
