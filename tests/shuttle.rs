//! Threads race in random schedules. Built and run only with `RUSTFLAGS="--cfg shuttle"`.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

use futures::{AsyncReadExt, AsyncWriteExt};
use shuttle::{check_random, future, rand::Rng, thread};
use trunkline::{Config, Driver, GoAwayCode, ResetCode, Session, Stream, transport::memory};

/// 10,000 with `TRUNKLINE_THOROUGH=1`, else 500. A task that sleeps forever is a deadlock, which
/// the scheduler reports.
fn schedules() -> usize {
    if std::env::var_os("TRUNKLINE_THOROUGH").is_some() { 10_000 } else { 500 }
}

type Driving = future::JoinHandle<Result<(), trunkline::SessionError>>;

fn pair(capacity: usize) -> (Session, Session, Driver, Driver) {
    let config = Config::builder().no_timer().seed(Some(1)).build().unwrap();
    let (left, right) = memory::duplex(capacity);
    let (client, driver) = Session::client(left, config.clone());
    let (server, peer) = Session::server(right, config);
    (client, server, driver, peer)
}

fn spawn(driver: Driver) -> Driving {
    future::spawn(driver)
}

async fn echo(mut stream: Stream) {
    let mut buffer = [0; 8];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
    let _ = stream.close().await;
}

async fn call(client: Session, message: &'static [u8]) {
    let mut stream = client.open().await.unwrap();
    stream.write_all(message).await.unwrap();
    stream.close().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, message);
}

#[test]
fn calls_from_many_tasks_all_finish() {
    check_random(
        || {
            let (client, server, driver, peer) = pair(16);
            let drivers = [spawn(driver), spawn(peer)];
            let serving = future::spawn(async move {
                let mut handlers = Vec::new();
                while let Some(stream) = server.accept().await {
                    handlers.push(future::spawn(echo(stream)));
                }
                for handler in handlers {
                    handler.await.unwrap();
                }
            });
            let calls = [&b"one"[..], b"another", b"and a longer one"]
                .map(|message| future::spawn(call(client.clone(), message)));
            future::block_on(async move {
                for call in calls {
                    call.await.unwrap();
                }
                client.close().await.unwrap();
                serving.await.unwrap();
                for driver in drivers {
                    driver.await.unwrap().unwrap();
                }
            });
        },
        schedules(),
    );
}

#[test]
fn dropped_handles_end_the_session() {
    // spec.md §8.5.1: every handle goes on a thread of its own, at any moment.
    check_random(
        || {
            let (client, server, driver, peer) = pair(64);
            let drivers = [spawn(driver), spawn(peer)];
            let never_sent = client.try_open().unwrap();
            let (read, write) = client.try_open().unwrap().into_split();
            let late = client.clone();
            let threads = [
                thread::spawn(move || drop(never_sent)),
                thread::spawn(move || drop(read)),
                thread::spawn(move || drop(write)),
                thread::spawn(move || drop(late.try_open())),
                thread::spawn(move || drop(client)),
                thread::spawn(move || drop(server)),
            ];
            future::block_on(async move {
                for driver in drivers {
                    // The server may be gone before it hears of a stream: spec.md §8.4.2.
                    let _ = driver.await.unwrap();
                }
            });
            for thread in threads {
                thread.join().unwrap();
            }
        },
        schedules(),
    );
}

#[test]
fn a_stream_never_sent_does_not_keep_a_session_that_nobody_holds() {
    // spec.md §8.5.1, §4.2.5
    check_random(
        || {
            let (client, server, driver, peer) = pair(64);
            let drivers = [spawn(driver), spawn(peer)];
            let holder = thread::spawn(move || {
                let stream = client.try_open();
                drop(client);
                drop(stream);
            });
            future::block_on(async move {
                for driver in drivers {
                    driver.await.unwrap().unwrap();
                }
            });
            holder.join().unwrap();
            drop(server);
        },
        10 * schedules(),
    );
}

#[test]
fn a_dropped_driver_leaves_nobody_asleep() {
    // spec.md §8.5.2, §8.5.3
    check_random(
        || {
            let (client, server, driver, peer) = pair(16);
            let (driver, abort) = futures::future::abortable(driver);
            let driver = future::spawn(driver);
            let other = spawn(peer);
            let mut tasks = Vec::new();
            for _ in 0..2 {
                let client = client.clone();
                tasks.push(future::spawn(async move {
                    if let Ok(mut stream) = client.open().await {
                        let _ = stream.write_all(&[1; 40]).await;
                        let _ = stream.flush().await;
                        let _ = stream.read(&mut [0; 4]).await;
                    }
                }));
            }
            let accepting = client.clone();
            tasks.push(future::spawn(async move { while accepting.accept().await.is_some() {} }));
            let closed = client.clone();
            tasks.push(future::spawn(async move {
                let _ = closed.closed().await;
            }));
            tasks.push(future::spawn(async move {
                while let Some(mut stream) = server.accept().await {
                    let _ = stream.read(&mut [0; 4]).await;
                    let _ = stream.write_all(b"x").await;
                }
            }));
            thread::yield_now();
            abort.abort();
            future::block_on(async move {
                let _ = driver.await.unwrap();
                for task in tasks {
                    task.await.unwrap();
                }
                let _ = other.await.unwrap();
                assert!(client.is_closed());
            });
        },
        schedules(),
    );
}

#[test]
fn resets_aborts_and_closes_race() {
    check_random(
        || {
            let (client, server, driver, peer) = pair(16);
            let drivers = [spawn(driver), spawn(peer)];
            let mut tasks = Vec::new();
            let serving = server.clone();
            tasks.push(future::spawn(async move {
                while let Some(stream) = serving.accept().await {
                    if shuttle::rand::thread_rng().gen_bool(0.5) {
                        stream.reset(ResetCode(256));
                    } else {
                        echo(stream).await;
                    }
                }
            }));
            let (mut read, mut write) = client.try_open().unwrap().into_split();
            tasks.push(future::spawn(async move {
                let _ = write.write_all(&[7; 50]).await;
                if shuttle::rand::thread_rng().gen_bool(0.5) {
                    write.reset(ResetCode(300));
                } else {
                    let _ = write.close().await;
                }
            }));
            tasks.push(future::spawn(async move {
                let _ = read.read_to_end(&mut Vec::new()).await;
            }));
            let ender = client.clone();
            tasks.push(future::spawn(async move {
                if shuttle::rand::thread_rng().gen_bool(0.5) {
                    ender.abort(GoAwayCode::INTERNAL_ERROR);
                } else {
                    let _ = ender.close().await;
                }
                let _ = ender.closed().await;
            }));
            let other = server.clone();
            tasks.push(future::spawn(async move {
                let _ = other.close().await;
            }));
            future::block_on(async move {
                for task in tasks {
                    task.await.unwrap();
                }
                for driver in drivers {
                    let _ = driver.await.unwrap();
                }
                assert!(client.is_closed() && server.is_closed());
            });
        },
        schedules(),
    );
}

#[test]
fn openers_that_wait_are_woken_and_dropped_ones_pass_it_on() {
    // spec.md §4.4.2, §4.4.6
    check_random(
        || {
            let config = Config::builder().no_timer().seed(Some(1)).ack_backlog(1);
            let config = config.build().unwrap();
            let (left, right) = memory::duplex(64);
            let (client, driver) = Session::client(left, config.clone());
            let (server, peer) = Session::server(right, config);
            let drivers = [spawn(driver), spawn(peer)];
            let opens: Vec<_> = (0..4)
                .map(|number| {
                    let client = client.clone();
                    future::spawn(async move {
                        let mut open = Box::pin(client.open());
                        if number == 0 {
                            // Gives up after one look.
                            let _ = futures::poll!(&mut open);
                            future::yield_now().await;
                            return;
                        }
                        drop(open.await.unwrap());
                    })
                })
                .collect();
            let accepts: Vec<_> = (0..2)
                .map(|_| {
                    let server = server.clone();
                    future::spawn(async move { while server.accept().await.is_some() {} })
                })
                .collect();
            drop(server);
            future::block_on(async move {
                for open in opens {
                    open.await.unwrap();
                }
                client.close().await.unwrap();
                for accept in accepts {
                    accept.await.unwrap();
                }
                for driver in drivers {
                    // Without a timer the client does not linger: what the server still had to
                    // say may fail, which does not make this a bad end (spec.md §8.4.1).
                    driver.await.unwrap().unwrap();
                }
            });
        },
        schedules(),
    );
}

#[test]
fn pings_race_with_the_end() {
    // spec.md §3.3.4, on a clock that stands still.
    check_random(
        || {
            let timer = std::sync::Arc::new(trunkline::runtime::ManualTimer::new());
            let config = Config::builder().timer(timer).seed(Some(1)).linger(Default::default());
            let config = config.build().unwrap();
            let (left, right) = memory::duplex(24);
            let (client, driver) = Session::client(left, config.clone());
            let (server, peer) = Session::server(right, config);
            let drivers = [spawn(driver), spawn(peer)];
            let pings: Vec<_> = (0..3)
                .map(|number| {
                    let session = if number == 0 { server.clone() } else { client.clone() };
                    future::spawn(async move {
                        let _ = session.ping().await;
                    })
                })
                .collect();
            future::block_on(async move {
                let _ = client.close().await;
                for ping in pings {
                    ping.await.unwrap();
                }
                for driver in drivers {
                    let _ = driver.await.unwrap();
                }
            });
            drop(server);
        },
        schedules(),
    );
}

#[test]
fn readers_and_driver_hand_the_io_to_each_other() {
    // Whoever has it, the others are not forgotten; the end comes at any moment.
    const LEN: usize = 60_000;
    check_random(
        || {
            let (client, server, driver, peer) = pair(40_000);
            let drivers = [spawn(driver), spawn(peer)];
            let cut = shuttle::rand::thread_rng().gen_bool(0.3);
            let reading = future::spawn(async move {
                let Some(mut stream) = server.accept().await else {
                    assert!(cut, "no stream");
                    return;
                };
                let (mut memory, mut total) = (vec![0; 30_000], 0);
                loop {
                    match stream.read(&mut memory).await {
                        Ok(0) => break,
                        Ok(len) => {
                            let numbers = (total..total + len).map(|at| at as u8);
                            assert!(memory[..len].iter().copied().eq(numbers), "other bytes");
                            total += len;
                        }
                        Err(error) => {
                            assert!(cut, "{error}");
                            return;
                        }
                    }
                }
                assert_eq!(total, LEN);
                let closed = stream.close().await;
                assert!(cut || closed.is_ok());
                while server.accept().await.is_some() {}
            });
            let ender = client.clone();
            future::block_on(async move {
                let mut stream = client.open().await.unwrap();
                let bytes: Vec<_> = (0..LEN).map(|at| at as u8).collect();
                let ending = future::spawn(async move {
                    if cut {
                        ender.abort(GoAwayCode::INTERNAL_ERROR);
                    }
                });
                let written = stream.write_all(&bytes).await;
                assert!(cut || written.is_ok());
                let _ = stream.close().await;
                let _ = stream.read(&mut [0]).await;
                ending.await.unwrap();
                let _ = client.close().await;
                reading.await.unwrap();
                for driver in drivers {
                    let _ = driver.await.unwrap();
                }
            });
        },
        schedules(),
    );
}
