//! A session over an in-memory connection: streams open, carry bytes, close and reset.
#![allow(missing_docs)]

use futures::{AsyncReadExt, AsyncWriteExt, executor::block_on, future, join};
use trunkline::{Config, ResetCode, Session, StreamError, transport::memory};

/// Runs `work` beside the drivers of two joined sessions.
fn run<F: Future>(capacity: usize, work: impl FnOnce(Session, Session) -> F) -> F::Output {
    let (left, right) = memory::duplex(capacity);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    let drivers = future::join(driver, peer);
    futures::pin_mut!(drivers);
    let work = work(client, server);
    futures::pin_mut!(work);
    match block_on(future::select(work, drivers)) {
        future::Either::Left((output, _)) => output,
        future::Either::Right((results, work)) => {
            eprintln!("drivers ended first: {results:?}");
            block_on(work)
        }
    }
}

#[test]
fn what_is_written_arrives() {
    for (capacity, len) in [(1, 6_000u32), (7, 60_000), (64, 300_000), (4096, 900_000)] {
        run(capacity, async move |client, server| {
            let mut stream = client.open().await.unwrap();
            let sent: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let send = async {
                stream.write_all(&sent).await.unwrap();
                stream.close().await.unwrap();
            };
            let receive = async {
                let mut accepted = server.accept().await.unwrap();
                let mut got = Vec::new();
                accepted.read_to_end(&mut got).await.unwrap();
                accepted.close().await.unwrap();
                got
            };
            let ((), got) = join!(send, receive);
            assert!(got == sent);
        });
    }
}

#[test]
fn many_streams_echo() {
    run(4096, async |client, server| {
        let echo = async {
            let mut handlers = Vec::new();
            for _ in 0..100 {
                let mut stream = server.accept().await.unwrap();
                handlers.push(async move {
                    let mut got = Vec::new();
                    stream.read_to_end(&mut got).await.unwrap();
                    stream.write_all(&got).await.unwrap();
                    stream.close().await.unwrap();
                });
            }
            future::join_all(handlers).await;
        };
        let calls = future::join_all((0..100).map(|i| {
            let client = client.clone();
            async move {
                let mut stream = client.open().await.unwrap();
                let sent = vec![i as u8; i * 100];
                stream.write_all(&sent).await.unwrap();
                stream.close().await.unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, sent);
            }
        }));
        join!(echo, calls);
        let (a, b) = join!(client.close(), server.closed());
        assert_eq!((a, b), (Ok(()), Ok(())));
    });
}

#[test]
fn dropping_without_close_resets() {
    run(4096, async |client, server| {
        let mut stream = client.open().await.unwrap();
        stream.write_all(b"partial").await.unwrap();
        let mut accepted = server.accept().await.unwrap();
        let mut first = [0; 7];
        accepted.read_exact(&mut first).await.unwrap();
        drop(stream);
        let error = accepted.read(&mut first).await.unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<StreamError>();
        assert_eq!(inner, Some(&StreamError::Reset(ResetCode::CANCELLED)));
    });
}

#[test]
fn pings_are_answered() {
    run(4096, async |client, server| {
        client.ping().await.unwrap();
        server.ping().await.unwrap();
    });
}
