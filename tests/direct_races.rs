//! Readers and driver race for the IO, whatever its mood: the bytes are the same.
#![allow(clippy::unwrap_used)]

mod support;

use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, executor::block_on};
use support::{Moody, Random, Sim, count, pattern};
use trunkline::{Config, Session, Stream, transport::memory};

#[test]
fn readers_and_driver_race_for_the_io() {
    // On threads of their own, with streams beside each other and rooms of every size.
    let (left, right) = memory::duplex(300_000);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    let drivers = [driver, peer].map(|driver| std::thread::spawn(move || block_on(driver)));
    let len = 1_000_000 * count(40) as usize;
    let writers: Vec<_> = (0..3)
        .map(|seed| {
            let mut stream = block_on(client.open()).unwrap();
            std::thread::spawn(move || {
                block_on(async {
                    stream.write_all(&pattern(seed, len)).await.unwrap();
                    stream.close().await.unwrap();
                    stream.read_to_end(&mut Vec::new()).await.unwrap();
                });
                seed
            })
        })
        .collect();
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let mut stream = block_on(server.accept()).unwrap();
            std::thread::spawn(move || {
                let mut random = Random(n);
                let mut memory = vec![0; 200_000];
                let mut all = Vec::with_capacity(len);
                block_on(async {
                    loop {
                        let room = 1 + random.below(memory.len());
                        match stream.read(&mut memory[..room]).await.unwrap() {
                            0 => break,
                            len => all.extend_from_slice(&memory[..len]),
                        }
                    }
                    stream.close().await.unwrap();
                });
                all
            })
        })
        .collect();
    let all: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    for writer in writers {
        let bytes = pattern(writer.join().unwrap(), len);
        assert!(all.contains(&bytes), "bytes were lost or swapped");
    }
    block_on(client.close()).unwrap();
    for driver in drivers {
        driver.join().unwrap().unwrap();
    }
}

/// Reads to the end, each time in another way.
async fn read_in_every_way(mut stream: Stream, mut random: Random) -> Vec<u8> {
    let mut memory = vec![0; 64 << 10];
    let mut all = Vec::new();
    loop {
        match random.below(8) {
            0 => match stream.read_chunk(1 + random.below(50_000)).await.unwrap() {
                Some(chunk) => all.extend_from_slice(&chunk),
                None => return all,
            },
            1 => {
                let found = stream.fill_buf().await.unwrap();
                let len = found.len().min(random.below(30_000));
                all.extend_from_slice(&found[..len]);
                if found.is_empty() {
                    return all;
                }
                stream.consume_unpin(len);
            }
            n => {
                let room = if n == 2 { 1 + random.below(100) } else { memory.len() };
                match stream.read(&mut memory[..room]).await.unwrap() {
                    0 => return all,
                    len => all.extend_from_slice(&memory[..len]),
                }
            }
        }
    }
}

#[test]
fn whatever_the_mood_of_the_io_and_however_a_stream_is_read_its_bytes_are_the_same() {
    for seed in 0..count(400) {
        let mut random = Random(seed);
        let mut sim = Sim::new(seed);
        let (left, right) = memory::duplex(1 + random.below(100_000));
        let config = sim.config().build().unwrap();
        let (client, driver) = Session::client(left, config.clone());
        sim.spawn(driver);
        let io = Moody { io: right, random: Random(seed) };
        let (server, driver) = Session::server(io, config);
        let pings = server.clone();
        let texts = [1, 2].map(|n| pattern(seed + n, 1 + random.below(400_000)));
        for text in texts.clone() {
            let client = client.clone();
            sim.spawn(async move {
                let mut stream = client.open().await.unwrap();
                stream.write_all(&text).await.unwrap();
                // Who has read it all may be gone by now.
                drop(stream.close().await);
            });
        }
        let reading = async move {
            let streams = [server.accept().await.unwrap(), server.accept().await.unwrap()];
            let reads = streams.map(|stream| read_in_every_way(stream, Random(random.next())));
            futures::future::join_all(reads).await
        };
        // The pings poll their whole task at other times than its streams need.
        let reading = async move {
            let pinging = async {
                for _ in 0..20 {
                    pings.ping().await.unwrap();
                }
            };
            futures::join!(reading, pinging).0
        };
        let received = match seed % 3 {
            0 => {
                sim.spawn(driver);
                sim.run(reading)
            }
            1 => sim.run(async move {
                let driver = std::pin::pin!(driver);
                let reading = std::pin::pin!(reading);
                match futures::future::select(reading, driver).await {
                    futures::future::Either::Left((all, _)) => all,
                    futures::future::Either::Right(_) => panic!("it ended"),
                }
            }),
            _ => sim.run(async move {
                let driver = std::pin::pin!(driver);
                let reading = std::pin::pin!(reading);
                match futures::future::select(driver, reading).await {
                    futures::future::Either::Right((all, _)) => all,
                    futures::future::Either::Left(_) => panic!("it ended"),
                }
            }),
        };
        for text in texts {
            assert!(received.contains(&text), "other bytes, seed {seed}");
        }
    }
}
