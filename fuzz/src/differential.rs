//! Valid frames give the same bytes whether a trunkline core or the `yamux` crate reads them, and
//! any bytes are the same frames to our decoder and to a naive one.

use std::{
    collections::HashMap,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use trunkline::{
    Config, Role,
    proto::{Batch, Core, Read, Slot},
    runtime::{ManualTimer, Timer},
};

use super::{
    cursor::Cursor,
    decoder::decode,
    naive::{self, ACK, DATA, FIN, Fields, PING, RST, SYN, Splitter, WINDOW, WINDOW_SIZE},
    pattern::pattern,
};

/// The first byte decides: bytes for two decoders, or a script of valid frames for two sessions.
pub fn differential(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    if cursor.u8() % 8 == 7 {
        let size = [cursor.u8()];
        assert_eq!(decode(cursor.rest(), &size), naive::parse(cursor.rest()));
        return;
    }
    let size = usize::from(cursor.u16()).max(1);
    let script = Script::write(&mut cursor);
    let ours = with_trunkline(&script.wire, size);
    let theirs = with_yamux(&script.wire, size);
    for (id, sent) in &script.streams {
        match ours.get(id) {
            Some(ours) => {
                assert!(ours.bytes == sent.bytes, "stream {id}: trunkline reads other bytes");
                assert_eq!(ours.finished, sent.finished, "stream {id}: trunkline's end of file");
            }
            // Reset before it was accepted, it leaves nothing behind (`spec.md §4.4.5`).
            None => assert!(sent.reset, "stream {id}: trunkline has none"),
        }
        let theirs = &theirs[id];
        assert!(theirs.bytes == sent.bytes, "stream {id}: yamux reads other bytes");
        // To yamux a reset is an end of file as well.
        assert_eq!(theirs.finished, sent.finished || sent.reset, "stream {id}: yamux's end");
    }
}

/// What a stream carried, or what a reader got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Carried {
    bytes: Vec<u8>,
    finished: bool,
    reset: bool,
}

/// Frames that a client may send.
#[derive(Default)]
struct Script {
    wire: Vec<u8>,
    streams: HashMap<u32, Carried>,
    ids: Vec<u32>,
}

impl Script {
    fn write(cursor: &mut Cursor<'_>) -> Self {
        let mut script = Self::default();
        for _ in 0..MAX_FRAMES {
            if cursor.is_empty() || script.wire.len() > MAX_WIRE {
                break;
            }
            script.frame(cursor);
        }
        script
    }

    fn frame(&mut self, cursor: &mut Cursor<'_>) {
        match cursor.u8() % 16 {
            0..=2 if self.ids.len() < MAX_STREAMS => self.open(cursor),
            3..=9 => self.continue_stream(cursor, DATA),
            10 | 11 => self.continue_stream(cursor, WINDOW),
            12 => {
                let length = cursor.u32();
                self.push(Fields { kind: PING, flags: SYN, stream: 0, length }, &[]);
            }
            _ => self.end_stream(cursor),
        }
    }

    fn open(&mut self, cursor: &mut Cursor<'_>) {
        let id = self.ids.len() as u32 * 2 + 1;
        self.ids.push(id);
        self.streams.insert(id, Carried::default());
        let kind = if cursor.flag() { DATA } else { WINDOW };
        let fin = if cursor.u8() % 16 == 15 { FIN } else { 0 };
        self.send(id, kind, SYN | fin, cursor);
    }

    fn continue_stream(&mut self, cursor: &mut Cursor<'_>, kind: u8) {
        if let Some(id) = self.choose(cursor) {
            // An ACK for a stream of the sender's own means nothing.
            let flags = if cursor.u8() % 16 == 15 { ACK } else { 0 };
            self.send(id, kind, flags, cursor);
        }
    }

    fn end_stream(&mut self, cursor: &mut Cursor<'_>) {
        let choice = cursor.u8();
        let Some(id) = self.choose(cursor) else { return };
        if choice % 4 == 3 {
            let kind = if choice & 4 == 0 { DATA } else { WINDOW };
            self.push(Fields { kind, flags: RST, stream: id, length: 0 }, &[]);
            self.streams.entry(id).or_default().reset = true;
        } else {
            let kind = if choice & 4 == 0 { DATA } else { WINDOW };
            self.send(id, kind, FIN, cursor);
        }
    }

    /// A stream that is neither finished nor reset.
    fn choose(&self, cursor: &mut Cursor<'_>) -> Option<u32> {
        let choice = usize::from(cursor.u8());
        let id = *self.ids.get(choice % self.ids.len().max(1))?;
        let stream = &self.streams[&id];
        (!stream.finished && !stream.reset).then_some(id)
    }

    fn send(&mut self, id: u32, kind: u8, flags: u16, cursor: &mut Cursor<'_>) {
        let length = cursor.pick(&[0, 1, 3, 100, 1_024, 16_384, 70_000, 262_144]);
        let stream = self.streams.entry(id).or_default();
        stream.finished |= flags & FIN != 0;
        if kind == WINDOW {
            return self.push(Fields { kind, flags, stream: id, length }, &[]);
        }
        // Without credit from the other end there is one window for the whole stream.
        let left = WINDOW_SIZE as usize - stream.bytes.len();
        let len = left.min(length as usize);
        let body = pattern(id as usize, stream.bytes.len(), len);
        stream.bytes.extend_from_slice(body);
        self.push(Fields { kind, flags, stream: id, length: len as u32 }, body);
    }

    fn push(&mut self, frame: Fields, body: &[u8]) {
        self.wire.extend(frame.wire());
        self.wire.extend_from_slice(body);
    }
}

const MAX_STREAMS: usize = 200;
const MAX_FRAMES: usize = 4_000;
const MAX_WIRE: usize = 512 << 10;

fn with_trunkline(wire: &[u8], size: usize) -> HashMap<u32, Carried> {
    let timer = ManualTimer::new();
    let now = timer.now();
    let config = Config::builder().timer(Arc::new(timer)).build().expect("limits in range");
    let mut core = Core::new(Role::Server, &config, now);
    let mut streams: Vec<(Slot, u32)> = Vec::new();
    let mut carried: HashMap<u32, Carried> = HashMap::new();
    for piece in wire.chunks(size.max(wire.len() / 512)) {
        for piece in piece.chunks(64 << 10) {
            core.handle_input(&Bytes::copy_from_slice(piece), now);
        }
        assert_eq!(core.ended(), None, "valid frames end the session");
        while let Some(slot) = core.accept() {
            let id = core.id(slot).expect("an accepted stream has an id");
            streams.push((slot, id.0));
            carried.insert(id.0, Carried::default());
        }
        while core.poll_event().is_some() {}
        for (slot, id) in &streams {
            let got = carried.entry(*id).or_default();
            while let Ok(Read::Data(chunk)) = core.read_chunk(*slot, usize::MAX) {
                got.bytes.extend_from_slice(&chunk);
            }
            got.finished = matches!(core.read_chunk(*slot, 1), Ok(Read::End));
        }
    }
    let mut batch = Batch::new();
    core.take_output(&mut batch, now);
    check_pongs(&batch, wire);
    carried
}

/// As many answers as questions, in the same order, but for equal ones in a row.
fn check_pongs(batch: &Batch, wire: &[u8]) {
    let mut slices = [IoSlice::new(&[]); 4];
    let set = batch.slices(&mut slices);
    let mut sent = Vec::new();
    slices[..set].iter().for_each(|slice| sent.extend_from_slice(slice));
    assert_eq!(pings(&sent, ACK), pings(wire, SYN), "answers to pings");
}

fn pings(wire: &[u8], flag: u16) -> Vec<u32> {
    let mut values = Vec::new();
    Splitter::default().push(wire, |header| match header {
        Ok(frame) if frame.kind == PING && frame.has(flag) => values.push(frame.length),
        _ => {}
    });
    values.dedup();
    values
}

fn with_yamux(wire: &[u8], size: usize) -> HashMap<u32, Carried> {
    let io = Replay { wire: wire.to_vec(), at: 0, size: size.max(wire.len() / 512) };
    let mut connection = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server);
    let mut context = Context::from_waker(Waker::noop());
    let mut streams = Vec::new();
    let mut carried: HashMap<u32, Carried> = HashMap::new();
    let mut buffer = vec![0; 64 << 10];
    // The replay never ends, it only has nothing more: an end would close every stream.
    loop {
        let before = streams.len();
        match connection.poll_next_inbound(&mut context) {
            Poll::Ready(Some(Ok(stream))) => {
                let id = stream.id().val();
                streams.push((stream, id));
                carried.insert(id, Carried::default());
            }
            Poll::Ready(other) => panic!("yamux ends on valid frames: {other:?}"),
            Poll::Pending => {}
        }
        for (stream, id) in &mut streams {
            let got = carried.entry(*id).or_default();
            while let Poll::Ready(Ok(len)) =
                Pin::new(&mut *stream).poll_read(&mut context, &mut buffer)
            {
                if len == 0 {
                    got.finished = true;
                    break;
                }
                got.bytes.extend_from_slice(&buffer[..len]);
            }
        }
        if streams.len() == before {
            return carried;
        }
    }
}

/// An IO that hands out prepared bytes, piece by piece, and swallows what is written.
struct Replay {
    wire: Vec<u8>,
    at: usize,
    size: usize,
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        let len = buffer.len().min(self.size).min(self.wire.len() - self.at);
        if len == 0 {
            return Poll::Pending;
        }
        buffer[..len].copy_from_slice(&self.wire[self.at..self.at + len]);
        self.at += len;
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(buffer.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
