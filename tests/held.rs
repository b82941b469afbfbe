//! Streams that are over and still held, beside streams that live: whatever is done with either, in
//! whatever order, a handle answers for its own stream.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use support::{Sim, pause};
use trunkline::{ReadHalf, Session, Stream, StreamError, WriteHalf};

#[derive(Clone, Copy, Debug)]
enum Op {
    Open,
    Write(usize),
    Read(usize),
    Chunk(usize),
    /// Lent, and so much of it consumed.
    Fill(usize),
    Close,
    Flush,
    Ended,
    /// Apart or together.
    Split,
    /// Only what is over.
    Drop,
    Pause(usize),
}

/// What is done with which end of which stream.
#[derive(Clone, Debug)]
struct Step(usize, usize, Op);

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let len = usize::arbitrary(g) % g.choose(&[4, 300, 5_000, 40_000]).unwrap();
        let op = match u8::arbitrary(g) % 40 {
            0..=2 => Op::Open,
            3..=7 => Op::Write(len),
            8..=11 => Op::Read(len + 1),
            12..=15 => Op::Chunk(len + 1),
            16..=19 => Op::Fill(len),
            20..=25 => Op::Close,
            26..=28 => Op::Flush,
            29..=30 => Op::Ended,
            31..=33 => Op::Split,
            34 => Op::Drop,
            _ => Op::Pause(len.min(100)),
        };
        Self(usize::arbitrary(g), usize::arbitrary(g) % 2, op)
    }
}

enum Held {
    Whole(Stream),
    Halves(ReadHalf, WriteHalf),
    Nothing,
}

trait Reads: AsyncBufRead + Unpin {
    fn chunk(&mut self, max: usize) -> Option<io::Result<Option<Bytes>>>;
}

trait Writes: AsyncWrite + Unpin {
    fn has_ended(&mut self) -> Option<Result<(), StreamError>>;
}

macro_rules! halves {
    ($reads:ty, $writes:ty) => {
        impl Reads for $reads {
            fn chunk(&mut self, max: usize) -> Option<io::Result<Option<Bytes>>> {
                self.read_chunk(max).now_or_never()
            }
        }

        impl Writes for $writes {
            fn has_ended(&mut self) -> Option<Result<(), StreamError>> {
                self.ended().now_or_never()
            }
        }
    };
}

halves!(Stream, Stream);
halves!(ReadHalf, WriteHalf);

struct End {
    held: Held,
    key: usize,
    id: u32,
    sent: usize,
    received: usize,
    at_end: bool,
    closed: bool,
}

impl End {
    const fn new(stream: Stream, key: usize, id: u32) -> Self {
        let held = Held::Whole(stream);
        Self { held, key, id, sent: 0, received: 0, at_end: false, closed: false }
    }

    fn reads(&mut self) -> Option<&mut dyn Reads> {
        match &mut self.held {
            Held::Whole(stream) => Some(stream),
            Held::Halves(read, _) => Some(read),
            Held::Nothing => None,
        }
    }

    fn writes(&mut self) -> Option<&mut dyn Writes> {
        match &mut self.held {
            Held::Whole(stream) => Some(stream),
            Held::Halves(_, write) => Some(write),
            Held::Nothing => None,
        }
    }

    fn expect(&mut self, peer: (usize, usize, bool), bytes: &[u8]) {
        let (key, sent, closed) = peer;
        if bytes.is_empty() {
            assert!(closed && self.received == sent, "an end too early");
            self.at_end = true;
            return;
        }
        assert!(!self.at_end, "bytes behind the end");
        let expected = (self.received..).map(|at| pattern(key, at));
        assert!(bytes.iter().copied().eq(expected.take(bytes.len())), "other bytes");
        self.received += bytes.len();
        assert!(self.received <= sent);
    }

    fn act(&mut self, peer: (usize, usize, bool), op: Op) {
        let Self { key, sent, closed, .. } = *self;
        match op {
            Op::Write(len) => {
                let bytes: Vec<_> = (sent..sent + len).map(|at| pattern(key, at)).collect();
                let Some(writes) = self.writes() else { return };
                match writes.write(&bytes).now_or_never() {
                    Some(Ok(len)) => self.sent += len,
                    Some(Err(error)) => {
                        assert!(closed);
                        assert_eq!(support::inner(&error), StreamError::Finished);
                    }
                    None => assert!(!closed),
                }
            }
            Op::Read(len) => {
                let mut out = vec![0; len];
                let Some(reads) = self.reads() else { return };
                if let Some(read) = reads.read(&mut out).now_or_never() {
                    self.expect(peer, &out[..read.unwrap()]);
                }
            }
            Op::Chunk(max) => {
                let Some(reads) = self.reads() else { return };
                if let Some(read) = reads.chunk(max) {
                    self.expect(peer, &read.unwrap().unwrap_or_default());
                }
            }
            Op::Fill(len) => {
                let Some(reads) = self.reads() else { return };
                let Some(lent) = reads.fill_buf().now_or_never() else { return };
                let lent = lent.unwrap();
                let (some, last) = (lent[..len.min(lent.len())].to_vec(), lent.is_empty());
                reads.consume_unpin(some.len());
                if last || !some.is_empty() {
                    self.expect(peer, &some);
                }
            }
            Op::Close => {
                let Some(writes) = self.writes() else { return };
                if let Some(done) = writes.close().now_or_never() {
                    done.unwrap();
                }
                self.closed = true;
            }
            Op::Flush => {
                let Some(writes) = self.writes() else { return };
                if let Some(done) = writes.flush().now_or_never() {
                    done.unwrap();
                }
            }
            Op::Ended => {
                let Some(writes) = self.writes() else { return };
                if let Some(ended) = writes.has_ended() {
                    assert!(ended == Ok(()) && closed && peer.2);
                }
            }
            Op::Split => self.split_or_join(),
            Op::Drop if self.closed && self.at_end => self.held = Held::Nothing,
            Op::Drop | Op::Open | Op::Pause(_) => {}
        }
        if let Held::Whole(stream) = &self.held {
            assert_eq!(stream.id().unwrap().0, self.id, "the id of another stream");
        }
    }

    fn split_or_join(&mut self) {
        self.held = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Whole(stream) => {
                let (read, write) = stream.into_split();
                Held::Halves(read, write)
            }
            Held::Halves(read, write) => Held::Whole(read.reunite(write).unwrap()),
            Held::Nothing => Held::Nothing,
        };
    }

    fn is_done(&self) -> bool {
        self.closed && self.at_end
    }
}

const fn pattern(key: usize, at: usize) -> u8 {
    (key.wrapping_mul(31) ^ at.wrapping_mul(7) ^ (at >> 8)) as u8
}

async fn act(client: Session, server: Session, steps: Vec<Step>) {
    let mut streams: Vec<[End; 2]> = Vec::new();
    for Step(which, end, op) in steps {
        match op {
            Op::Open if streams.len() < 200 => {
                let mut near = client.open().await.unwrap();
                near.flush().await.unwrap();
                let far = server.accept().await.unwrap();
                let (key, id) = (2 * streams.len(), near.id().unwrap().0);
                streams.push([End::new(near, key, id), End::new(far, key + 1, id)]);
            }
            Op::Pause(turns) => pause(turns).await,
            _ if streams.is_empty() => {}
            _ => {
                let index = which % streams.len();
                on(&mut streams[index], end, op);
            }
        }
    }
    while streams.iter().flatten().any(|end| !end.is_done()) {
        for ends in &mut streams {
            for end in 0..2 {
                on(ends, end, Op::Close);
                on(ends, end, Op::Chunk(usize::MAX));
            }
        }
        pause(1).await;
    }
    for stats in [client.stats(), server.stats()] {
        let count = stats.inbound_streams + stats.outbound_streams + stats.buffered;
        assert_eq!((count, stats.resets_sent), (0, 0));
    }
    for end in streams.iter_mut().flatten() {
        for op in [Op::Flush, Op::Ended, Op::Write(1), Op::Read(1), Op::Fill(1), Op::Split] {
            end.act((0, end.received, true), op);
        }
    }
    // Those that are held do not hold it up.
    assert_eq!(client.close().await, Ok(()));
    drop(streams);
}

fn on(ends: &mut [End; 2], end: usize, op: Op) {
    let End { key, sent, closed, .. } = ends[1 - end];
    ends[end].act((key, sent, closed), op);
}

#[test]
fn a_handle_answers_for_its_own_stream() {
    fn holds(seed: u64, steps: Vec<Step>) {
        let mut sim = Sim::new(seed);
        let (client, server) = sim.pair(4096);
        sim.run(act(client, server, steps));
    }
    let mut sized = QuickCheck::new().tests(100).rng(Gen::new(600));
    sized.quickcheck(holds as fn(u64, Vec<Step>));
}
