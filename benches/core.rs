//! Two cores, no IO: what the protocol itself costs. `cargo bench --bench core`.

use std::{io::IoSlice, time::Instant};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use trunkline::{
    Config, Role,
    proto::{Batch, Core, Half, Slot},
};

fn main() {
    divan::main();
}

struct Pair {
    client: Core,
    server: Core,
    batch: Batch,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let config = Config::default();
        let now = Instant::now();
        Self {
            client: Core::new(Role::Client, &config, now),
            server: Core::new(Role::Server, &config, now),
            batch: Batch::new(),
            now,
        }
    }

    /// Carries what either side has staged to the other.
    fn deliver(&mut self) {
        let now = self.now;
        for _ in 0..2 {
            if let Some(number) = self.client.take_output(&mut self.batch, now) {
                self.server.handle_input(&drain(&mut self.batch), now);
                self.client.handle_flushed(number, now);
            }
            std::mem::swap(&mut self.client, &mut self.server);
        }
        while self.client.poll_event().is_some() {}
        while self.server.poll_event().is_some() {}
    }

    fn open(&mut self) -> (Slot, Slot) {
        let near = self.client.open().expect("a stream");
        self.deliver();
        let far = self.server.accept().expect("a stream");
        (near, far)
    }
}

fn drain(batch: &mut Batch) -> Bytes {
    let mut wire = Vec::with_capacity(batch.remaining());
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); 64];
        let set = batch.slices(&mut slices);
        let len = slices[..set].iter().map(|slice| slice.len()).sum();
        slices[..set].iter().for_each(|slice| wire.extend_from_slice(slice));
        batch.advance(len);
    }
    wire.into()
}

#[divan::bench(args = [1, 64])]
fn small_messages(bencher: Bencher<'_, '_>, streams: usize) {
    let mut pair = Pair::new();
    let slots: Vec<_> = (0..streams).map(|_| pair.open()).collect();
    let mut out = [0; 64];
    bencher.counter(ItemsCount::new(streams)).bench_local(|| {
        for (near, _) in &slots {
            pair.client.write(*near, &[7; 64]).expect("written");
        }
        pair.deliver();
        for (_, far) in &slots {
            pair.server.read(*far, &mut out).expect("read");
        }
    });
}

#[divan::bench]
fn open_and_close(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new();
    let mut out = [0; 64];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        let near = pair.client.open().expect("a stream");
        pair.client.write(near, &[7; 64]).expect("written");
        pair.client.finish(near).expect("finished");
        pair.deliver();
        let far = pair.server.accept().expect("a stream");
        pair.server.read(far, &mut out).expect("read");
        pair.server.write(far, &out).expect("written");
        pair.server.finish(far).expect("finished");
        pair.server.release(far, Half::Both);
        pair.deliver();
        pair.client.read(near, &mut out).expect("read");
        pair.client.release(near, Half::Both);
    });
}
