//! One core against frames written by hand.

use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    Config, ConfigBuilder, Role, SessionError, StreamError, StreamId, Violation,
    frame::{Flags, Frame},
    proto::{Batch, Core, Event, IoStep, Read, Slot, Written},
};

pub(super) const SYN: Flags = Flags::SYN;
pub(super) const ACK: Flags = Flags::ACK;
pub(super) const FIN: Flags = Flags::FIN;
pub(super) const RST: Flags = Flags::RST;
pub(super) const NONE: Flags = Flags::NONE;

/// The window every stream starts with.
pub(super) const WINDOW: usize = 262_144;

pub(super) fn data(id: u32, flags: Flags, body: impl AsRef<[u8]>) -> Frame {
    Frame::Data { stream: StreamId(id), flags, body: Bytes::copy_from_slice(body.as_ref()) }
}

pub(super) const fn update(id: u32, flags: Flags, delta: u32) -> Frame {
    Frame::WindowUpdate { stream: StreamId(id), flags, delta }
}

pub(super) const fn ping(flags: Flags, value: u32) -> Frame {
    Frame::Ping { flags, value }
}

pub(super) const fn go_away(code: u32) -> Frame {
    Frame::GoAway { code }
}

pub(super) fn encode(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::to_bytes).collect()
}

/// Splits well-formed bytes into frames.
pub(super) fn parse(mut wire: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::decode(&mut wire).unwrap() {
        frames.push(frame);
    }
    assert!(wire.is_empty(), "a frame is cut off: {wire:02x?}");
    frames
}

/// `"00 01 0001"` as bytes.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// What follows the bytes that a reader got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Blocked,
    Eof,
    Error(StreamError),
}

/// Reads until there is nothing more to read now.
pub(super) fn drain(core: &mut Core, slot: Slot) -> (Vec<u8>, Tail) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match core.read(slot, &mut buffer) {
            Ok(Read::Data(len)) => bytes.extend_from_slice(&buffer[..len]),
            Ok(Read::Blocked) => return (bytes, Tail::Blocked),
            Ok(Read::End) => return (bytes, Tail::Eof),
            Err(error) => return (bytes, Tail::Error(error)),
        }
    }
}

/// Takes the next batch, read in steps of at most `step` bytes, and reports it as flushed.
pub(super) fn take(core: &mut Core, step: usize, now: Instant) -> Option<Vec<u8>> {
    let mut batch = Batch::new();
    let number = core.take_output(&mut batch, now)?;
    let wire = empty(&mut batch, step);
    core.handle_flushed(number, now);
    Some(wire)
}

/// Writes a batch as an IO would that takes at most `step` bytes at once.
pub(super) fn empty(batch: &mut Batch, step: usize) -> Vec<u8> {
    let mut wire = Vec::with_capacity(batch.remaining());
    while !batch.is_empty() {
        let before = batch.remaining();
        let mut slices = [IoSlice::new(&[]); 3];
        let set = batch.slices(&mut slices);
        assert!(set > 0, "a batch with bytes has slices");
        if let Some(single) = batch.single() {
            assert_eq!(single.len(), before, "a single slice is all there is");
            assert_eq!(single, &*slices[0]);
        }
        let mut len = 0;
        for slice in &slices[..set] {
            let part = &slice[..slice.len().min(step - len)];
            wire.extend_from_slice(part);
            len += part.len();
        }
        batch.advance(len);
        assert_eq!(batch.remaining(), before - len);
    }
    wire
}

/// The bytes of all Data frames among `frames`.
pub(super) fn body_len(frames: &[Frame]) -> usize {
    frames
        .iter()
        .map(|frame| match frame {
            Frame::Data { body, .. } => body.len(),
            _ => 0,
        })
        .sum()
}

/// Writes and sends until the stream blocks for good; what went over the wire.
pub(super) fn write_until_blocked(wire: &mut Wire, slot: Slot, bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut frames) = (0, Vec::new());
    while at < bytes.len() {
        match wire.core.write(slot, &bytes[at..]).unwrap() {
            Written::Bytes(len) => at += len,
            Written::Blocked => {
                let sent = wire.sent();
                if sent.is_empty() {
                    return frames;
                }
                frames.extend(sent);
            }
        }
    }
    frames.extend(wire.sent());
    frames
}

/// One core, its clock, and everything it says.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) core: Core,
    pub(super) now: Instant,
}

impl Wire {
    /// A core without keepalive and window growth, whose pings would be in the way.
    pub(super) fn new(role: Role, build: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
        let builder = Config::builder().keepalive(None).max_stream_window(262_144).seed(Some(1));
        Self::exactly(role, &build(builder).build().unwrap())
    }

    pub(super) fn exactly(role: Role, config: &Config) -> Self {
        let now = Instant::now();
        Self { core: Core::new(role, config, now), now }
    }

    pub(super) fn client() -> Self {
        Self::new(Role::Client, |builder| builder)
    }

    pub(super) fn server() -> Self {
        Self::new(Role::Server, |builder| builder)
    }

    pub(super) fn feed(&mut self, frames: &[Frame]) {
        self.feed_bytes(encode(frames));
    }

    pub(super) fn feed_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.core.handle_input(&bytes.into(), self.now);
    }

    /// Everything the core has to say now.
    pub(super) fn sent_bytes(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while let Some(batch) = take(&mut self.core, usize::MAX, self.now) {
            wire.extend(batch);
        }
        wire
    }

    pub(super) fn sent(&mut self) -> Vec<Frame> {
        parse(&self.sent_bytes())
    }

    /// Exactly these frames go out, and nothing else.
    #[track_caller]
    pub(super) fn expect(&mut self, frames: &[Frame]) {
        let sent = self.sent_bytes();
        assert_eq!(parse(&sent), frames);
        assert_eq!(sent, encode(frames));
    }

    /// The clock goes on, with every timeout on the way.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..100_000 {
            match self.core.poll_timeout() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.core.handle_timeout(self.now);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the core asks for the same time again and again");
    }

    pub(super) fn millis(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    pub(super) fn secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// Opens a stream and has its SYN sent.
    #[track_caller]
    pub(super) fn open(&mut self) -> Slot {
        let slot = self.core.open().unwrap();
        self.sent_bytes();
        slot
    }

    /// A stream of ours that the peer has acknowledged.
    #[track_caller]
    pub(super) fn established(&mut self) -> Slot {
        let slot = self.open();
        let id = self.core.id(slot).unwrap().0;
        self.feed(&[update(id, ACK, 0)]);
        slot
    }

    #[track_caller]
    pub(super) fn accept(&mut self) -> Slot {
        self.core.accept().unwrap()
    }

    /// A stream of the peer's, accepted and acknowledged.
    #[track_caller]
    pub(super) fn inbound(&mut self, id: u32) -> Slot {
        self.feed(&[update(id, SYN, 0)]);
        let slot = self.accept();
        self.core.send_acks();
        self.sent_bytes();
        slot
    }

    #[track_caller]
    pub(super) fn write(&mut self, slot: Slot, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.core.write(slot, rest).unwrap() {
                Written::Bytes(len) => rest = &rest[len..],
                Written::Blocked => panic!("no room for {} bytes", rest.len()),
            }
        }
    }

    pub(super) fn drain(&mut self, slot: Slot) -> (Vec<u8>, Tail) {
        drain(&mut self.core, slot)
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }

    pub(super) fn error(&self) -> Option<SessionError> {
        self.core.ended().and_then(Result::err)
    }

    pub(super) fn rule(&self) -> Option<Violation> {
        match self.error() {
            Some(SessionError::Violation { rule, .. }) => Some(rule),
            _ => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.core.io_step() == IoStep::Run
    }

    /// The session lives, and still answers.
    #[track_caller]
    pub(super) fn expect_alive(&mut self) {
        assert_eq!(self.core.ended(), None);
        self.feed(&[ping(SYN, 0x00A1_1FE5)]);
        assert_eq!(self.sent().first(), Some(&ping(ACK, 0x00A1_1FE5)));
    }

    /// The session ended for this rule, and the peer is told so with its last frame.
    #[track_caller]
    pub(super) fn expect_violation(&mut self, rule: Violation) {
        assert_eq!(self.rule(), Some(rule));
        assert_eq!(self.core.io_step(), IoStep::Shutdown);
        assert_eq!(self.sent_bytes(), hex("00 03 0000 00000000 00000001"));
    }
}
