//! Header and decoder: `cargo bench --bench codec`.

use divan::{Bencher, black_box, counter::BytesCount};
use trunkline::{
    StreamId,
    frame::{Decoder, Flags, Frame, Header, Kind},
};

fn main() {
    divan::main();
}

const HEADER: Header =
    Header { kind: Kind::Data, flags: Flags::NONE, stream: StreamId(77), length: 4096 };

#[divan::bench]
fn encode_header() -> [u8; 12] {
    black_box(HEADER).encode()
}

#[divan::bench]
fn decode_header(bencher: Bencher<'_, '_>) {
    let wire = HEADER.encode();
    bencher.bench(|| Header::decode(black_box(&wire)));
}

#[divan::bench(args = [0, 64, 4096, 65536])]
fn decode_frames(bencher: Bencher<'_, '_>, body: usize) {
    let frame = Frame::Data { stream: StreamId(1), flags: Flags::NONE, body: vec![7; body].into() };
    let wire = frame.to_bytes().repeat(16);
    bencher.counter(BytesCount::new(wire.len())).bench(|| {
        let mut decoder = Decoder::new();
        let mut input = wire.as_slice();
        let mut pieces = 0;
        while let Ok(Some(piece)) = decoder.decode(&mut input) {
            black_box(piece);
            pieces += 1;
        }
        pieces
    });
}
