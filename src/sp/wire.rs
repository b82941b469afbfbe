//! The bytes of SP over a stream: handshake, messages, the words in front of them
//! (`spec.md §13`). No IO here.

use bytes::{Buf, Bytes};

use super::{PipeError, Protocol};

/// The eight bytes that both ends send first.
pub(super) const fn greeting(protocol: Protocol) -> [u8; GREETING] {
    let [high, low] = protocol.0.to_be_bytes();
    [0, b'S', b'P', 0, high, low, 0, 0]
}

/// `spec.md §13.1`.
pub(super) fn check_greeting(bytes: [u8; GREETING], wanted: Protocol) -> Result<(), PipeError> {
    let [zero, s, p, version, high, low, reserved @ ..] = bytes;
    if (zero, s, p, reserved) != (0, b'S', b'P', [0, 0]) {
        return Err(PipeError::NotSp);
    }
    if version != 0 {
        return Err(PipeError::UnsupportedVersion(version));
    }
    let protocol = Protocol(u16::from_be_bytes([high, low]));
    if protocol == wanted { Ok(()) } else { Err(PipeError::WrongProtocol(protocol)) }
}

pub(super) const GREETING: usize = 8;

/// What goes in front of a message of `len` bytes: the mark, where there is one, and the length.
pub(super) fn prefix(len: usize, marked: bool) -> ([u8; MARK + LENGTH], usize) {
    let mut prefix = [0; MARK + LENGTH];
    prefix[0] = 1;
    prefix[MARK..].copy_from_slice(&(len as u64).to_be_bytes());
    (prefix, if marked { 0 } else { MARK })
}

const MARK: usize = 1;
const LENGTH: usize = 8;

/// Cuts a stream of bytes into messages. Holds no more than it was given.
#[derive(Debug)]
pub(super) struct Decoder {
    marked: bool,
    max: Option<usize>,
    prefix: [u8; MARK + LENGTH],
    /// How much of the prefix is there.
    have: usize,
    /// The message that is arriving, and what it lacks.
    partial: Option<(Vec<u8>, usize)>,
}

impl Decoder {
    pub(super) fn new(marked: bool, max: Option<usize>) -> Self {
        let have = if marked { 0 } else { MARK };
        Self { marked, max, prefix: [1; MARK + LENGTH], have, partial: None }
    }

    /// The next message in `input`, which loses what was looked at. `None`: all of it was.
    pub(super) fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, PipeError> {
        if let Some((partial, lacks)) = &mut self.partial {
            let step = input.len().min(*lacks);
            partial.extend_from_slice(&input[..step]);
            input.advance(step);
            *lacks -= step;
            return Ok(self.take_whole());
        }
        let step = input.len().min(self.prefix.len() - self.have);
        self.prefix[self.have..self.have + step].copy_from_slice(&input[..step]);
        input.advance(step);
        self.have += step;
        if self.prefix[0] != 1 {
            return Err(PipeError::NotSp);
        }
        if self.have < self.prefix.len() {
            return Ok(None);
        }
        self.have = if self.marked { 0 } else { MARK };
        let len = self.length()?;
        if let Some((message, rest)) = input.split_at_checked(len) {
            let message = Bytes::copy_from_slice(message);
            *input = rest;
            return Ok(Some(message));
        }
        let lacks = len - input.len();
        self.partial = Some((input.to_vec(), lacks));
        *input = &[];
        Ok(None)
    }

    fn length(&self) -> Result<usize, PipeError> {
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.prefix[MARK..]);
        let length = u64::from_be_bytes(length);
        let max = self.max.map_or(i64::MAX as u64, |max| max as u64);
        match usize::try_from(length) {
            Ok(len) if length <= max => Ok(len),
            _ => Err(PipeError::TooLong { length, max }),
        }
    }

    fn take_whole(&mut self) -> Option<Bytes> {
        let (whole, _) = self.partial.take_if(|(_, lacks)| *lacks == 0)?;
        Some(Bytes::from(whole))
    }
}

/// Where the words in front of a request end: behind the first with its high bit set
/// (`spec.md §13.4`). `None`: there is no such word, or it passed more than `ttl` hops.
pub(super) fn split_request(message: &Bytes, ttl: u8) -> Option<usize> {
    message
        .chunks_exact(WORD)
        .take(usize::from(ttl))
        .position(|word| word[0] & 0x80 != 0)
        .map(|words| (words + 1) * WORD)
}

/// The first word of a message.
pub(super) fn first_word(message: &Bytes) -> Option<u32> {
    message.first_chunk().map(|word| u32::from_be_bytes(*word))
}

pub(super) const WORD: usize = 4;

/// Set in the last word in front of a request: its id.
pub(super) const ID_BIT: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use quickcheck::{TestResult, quickcheck};

    use super::*;

    fn encode(messages: &[Vec<u8>], marked: bool) -> Vec<u8> {
        let mut wire = Vec::new();
        for message in messages {
            let (prefix, from) = prefix(message.len(), marked);
            wire.extend(&prefix[from..]);
            wire.extend(message);
        }
        wire
    }

    fn decode(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Bytes>, PipeError> {
        let mut messages = Vec::new();
        loop {
            match decoder.decode(&mut input)? {
                Some(message) => messages.push(message),
                None if input.is_empty() => return Ok(messages),
                None => {}
            }
        }
    }

    quickcheck! {
        fn any_split_gives_the_same_messages(
            messages: Vec<Vec<u8>>, step: usize, marked: bool
        ) -> bool {
            let wire = encode(&messages, marked);
            let mut decoder = Decoder::new(marked, None);
            let mut got = Vec::new();
            for piece in wire.chunks(step % 40 + 1) {
                got.extend(decode(&mut decoder, piece).unwrap());
            }
            got == messages
        }

        fn any_bytes_are_messages_or_an_error(wire: Vec<u8>, marked: bool) -> TestResult {
            let mut decoder = Decoder::new(marked, Some(1 << 20));
            let messages = decode(&mut decoder, &wire);
            let held = decoder.partial.as_ref().map_or(0, |(partial, _)| partial.capacity());
            let total = messages.iter().flatten().map(Bytes::len).sum::<usize>();
            TestResult::from_bool(held + total <= 2 * wire.len())
        }
    }

    // spec.md §13.2.2: the example.
    #[test]
    fn a_request_on_the_wire() {
        let wire = [0, 0, 0, 0, 0, 0, 0, 9, 0xcf, 0x35, 0xb9, 0xd4, b'h', b'e', b'l', b'l', b'o'];
        let (prefix, from) = prefix(9, false);
        assert_eq!(prefix[from..], wire[..8]);
        let messages = decode(&mut Decoder::new(false, None), &wire).unwrap();
        assert_eq!(messages, [&wire[8..]]);
        assert_eq!(split_request(&messages[0], 8), Some(4));
    }

    // spec.md §13.1.1
    #[test]
    fn greetings_are_told_apart() {
        let good = [0, 0x53, 0x50, 0, 0, 0x31, 0, 0];
        assert_eq!(greeting(Protocol::REP), good);
        assert_eq!(check_greeting(good, Protocol::REP), Ok(()));
        for at in [0, 1, 2, 6, 7] {
            let mut bad = good;
            bad[at] ^= 0x11;
            assert_eq!(check_greeting(bad, Protocol::REP), Err(PipeError::NotSp), "byte {at}");
        }
        let newer = [0, 0x53, 0x50, 1, 0, 0x31, 0, 0];
        assert_eq!(check_greeting(newer, Protocol::REP), Err(PipeError::UnsupportedVersion(1)));
        let other = Err(PipeError::WrongProtocol(Protocol::REP));
        assert_eq!(check_greeting(good, Protocol::REQ), other);
    }

    // spec.md §13.2.3
    #[test]
    fn a_message_beyond_the_limit_is_refused_by_its_length_alone() {
        let header = |len: u64| len.to_be_bytes();
        let mut decoder = Decoder::new(false, Some(1 << 20));
        assert_eq!(decode(&mut decoder, &header(1 << 20)), Ok(vec![]));
        for len in [(1 << 20) + 1, u64::MAX, 1 << 63] {
            let mut decoder = Decoder::new(false, Some(1 << 20));
            let error = decode(&mut decoder, &header(len)).unwrap_err();
            assert_eq!(error, PipeError::TooLong { length: len, max: 1 << 20 });
        }
        let mut unlimited = Decoder::new(false, None);
        assert!(decode(&mut unlimited, &header(u64::MAX)).is_err(), "negative");
    }

    // spec.md §13.4.3: seven hops and the id pass with a limit of eight.
    #[test]
    fn hops_are_counted() {
        let message = |hops: usize| {
            let mut words = [0, 0, 0, 1].repeat(hops);
            words.extend([0x80, 0, 0, 2]);
            Bytes::from(words)
        };
        assert_eq!(split_request(&message(0), 8), Some(4));
        assert_eq!(split_request(&message(7), 8), Some(32));
        assert_eq!(split_request(&message(8), 8), None);
        assert_eq!(split_request(&Bytes::from_static(&[0x80, 0, 0]), 8), None);
        assert_eq!(split_request(&Bytes::new(), 8), None);
    }
}
