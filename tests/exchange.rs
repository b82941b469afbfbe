//! Exchanges, on a virtual clock.
#![allow(clippy::unwrap_used)]

#[path = "support/exchanges.rs"]
mod exchanges;
mod support;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use exchanges::World;
use futures::{FutureExt, StreamExt};
use support::{Sim, count, pattern};
use trunkline::{
    Dispatcher, Protocol, ResetCode, Session, SessionError,
    exchange::{Code, Exchange, ExchangeConfig, ExchangeError, Kind, Malformed, Message, encode},
    runtime::{BoxFuture, ManualTimer, Timer},
};

#[test]
fn messages_of_every_size_cross_in_order() {
    let mut world = World::new(1);
    let (mut near, mut far) = world.pair();
    world.sim.run_for(Duration::from_secs(60), async move {
        let fragment = 256 << 10;
        let lens = [0, 1, 2_047, 2_048, 2_049, fragment - 1, fragment, fragment + 1, 3_000_000];
        let send = async {
            for len in lens {
                let body = pattern(len as u64, len);
                near.send(Message::new(Kind::Message, body)).await.unwrap();
            }
            near.finish().await.unwrap();
        };
        let receive = async {
            for len in lens {
                let body = far.recv_kind(Kind::Message).await.unwrap().body;
                assert!(body == pattern(len as u64, len), "{len} bytes");
            }
            assert_eq!(far.recv().await, Ok(None));
        };
        futures::join!(send, receive);
    });
}

#[test]
fn the_kind_that_is_not_asked_for_is_kept() {
    let mut world = World::new(2);
    let (mut near, mut far) = world.pair();
    world.sim.run(async move {
        far.send(Message::new(Kind::Message, "not yet")).await.unwrap();
        let failed = near.recv_kind(Kind::Response).await;
        assert_eq!(failed, Err(ExchangeError::UnexpectedKind(Kind::Message)));
        assert_eq!(near.recv().await.unwrap().unwrap().body, "not yet");
        far.finish().await.unwrap();
        assert_eq!(near.recv_kind(Kind::Response).await, Err(ExchangeError::Ended));
    });
}

#[test]
fn an_opener_that_listens_first_is_told_so_and_goes_on() {
    // spec.md §14.1.2
    let mut world = World::new(27);
    let mut near = Exchange::open(&world.client, &ExchangeConfig::default());
    let near = world.sim.run(async move {
        for _ in 0..2 {
            let failed = near.recv().await.unwrap_err();
            assert_eq!(failed, ExchangeError::NothingSent);
            assert_eq!((failed.code(), failed.reached_nobody()), (Code::BadRequest, true));
        }
        assert_eq!(near.recv_kind(Kind::Response).await, Err(ExchangeError::NothingSent));
        near.send(Message::new(Kind::Request, "x")).await.unwrap();
        near
    });
    let (mut near, mut far) = (near, world.accept());
    world.sim.run(async move {
        far.send_last(Message::new(Kind::Response, "y")).await.unwrap();
        assert_eq!(near.recv_kind(Kind::Response).await.unwrap().body, "y");
    });
}

#[test]
fn an_error_message_becomes_the_error_and_stays_it() {
    let mut world = World::new(3);
    let (mut near, far) = world.pair();
    world.sim.run(async move {
        far.fail(Code::Declined, "not today").await.unwrap();
        let said = ExchangeError::Remote { code: Code::Declined, message: "not today".to_owned() };
        assert_eq!(near.recv().await, Err(said.clone()));
        assert_eq!(near.recv().await, Err(said.clone()));
        assert_eq!(near.send(Message::new(Kind::Message, "x")).await, Err(said));
    });
}

#[test]
fn what_arrived_before_an_error_is_read_first() {
    let mut world = World::new(4);
    let (mut near, mut far) = world.pair();
    world.sim.run(async move {
        far.send(Message::new(Kind::Message, "one")).await.unwrap();
        far.send(Message::new(Kind::Message, "two")).await.unwrap();
        far.reset(ResetCode::CANCELLED);
        support::pause(100).await;
        assert_eq!(near.recv().await.unwrap().unwrap().body, "one");
        assert_eq!(near.recv().await.unwrap().unwrap().body, "two");
        assert_eq!(near.recv().await, Err(ExchangeError::Cancelled));
    });
}

#[test]
fn a_deadline_that_passed_comes_before_what_arrived() {
    let mut world = World::new(5);
    let (mut near, mut far) = world.pair_with(Some(Duration::from_secs(1)));
    world.sim.run(async move {
        far.send(Message::new(Kind::Message, "in time")).await.unwrap();
        std::mem::forget(far);
    });
    world.sim.advance(Duration::from_secs(2));
    assert_eq!(near.recv().now_or_never(), Some(Err(ExchangeError::Timeout)));
}

#[test]
fn the_time_to_live_travels_and_shrinks() {
    // spec.md §14.4
    let mut world = World::new(6);
    let (near, far) = world.pair_with(Some(Duration::from_micros(1_999_999)));
    let left = far.time_left().unwrap();
    assert!(left <= near.time_left().unwrap() && left >= Duration::from_millis(1_990), "{left:?}");
    let (near, far) = world.pair();
    assert_eq!((near.deadline(), far.deadline()), (None, None));
}

#[test]
fn of_two_deadlines_of_an_acceptor_the_earlier_holds() {
    // spec.md §14.4.1
    for (own, expected) in [(10_000, 1_000), (300, 300)] {
        let mut world = World::new(35);
        let mut near = Exchange::open(&world.client, &ExchangeConfig::default());
        let start = world.sim.now();
        near.set_deadline(start + Duration::from_secs(1)).unwrap();
        let near = world.sim.run(async move {
            near.send(Message::new(Kind::Request, "ask")).await.unwrap();
            near.send(Message::new(Kind::Message, "more")).await.unwrap();
            near
        });
        let mut far = world.accept();
        far.set_deadline(start + Duration::from_millis(own)).unwrap();
        let far = world.sim.run(async move {
            far.recv_kind(Kind::Request).await.unwrap();
            far.recv_kind(Kind::Message).await.unwrap();
            far
        });
        let held = far.deadline().unwrap() - start;
        assert!(held.as_millis().abs_diff(expected) <= 10, "{held:?}");
        drop(near);
    }
}

#[test]
fn half_a_millisecond_is_too_little_to_send_anything() {
    let mut world = World::new(7);
    let mut near = Exchange::open(&world.client, &ExchangeConfig::default());
    near.set_deadline(world.sim.now() + Duration::from_micros(500)).unwrap();
    let failed = world.sim.run(async move { near.send(Message::new(Kind::Request, "x")).await });
    assert_eq!(failed, Err(ExchangeError::Timeout));
    world.sim.settle();
    assert_eq!(world.server.stats().frames_received, 0);
}

#[test]
fn dropping_an_exchange_cancels_the_other_end() {
    let mut world = World::new(8);
    let (near, mut far) = world.pair();
    let told = world.sim.spawn(async move { far.cancelled().await });
    world.sim.advance(Duration::from_millis(5));
    assert!(!told.is_ready());
    drop(near);
    // Within the same moment: no time passes.
    world.sim.settle();
    assert_eq!(told.take(), Some(ExchangeError::Cancelled));
    // Also when this side had said all it had to say.
    let (mut near, mut far) = world.pair();
    let near = world.sim.run(async move {
        near.finish().await.unwrap();
        near
    });
    drop(near);
    world.sim.settle();
    assert_eq!(far.cancelled().now_or_never(), Some(ExchangeError::Cancelled));
}

#[test]
fn a_complete_exchange_ends_without_a_reset() {
    let mut world = World::new(9);
    let (mut near, mut far) = world.pair();
    world.sim.run(async move {
        near.finish().await.unwrap();
        near.finish().await.unwrap();
        assert_eq!(far.recv().await, Ok(None));
        far.send_last(Message::new(Kind::Response, "done")).await.unwrap();
        near.recv_kind(Kind::Response).await.unwrap();
        let late = near.send(Message::new(Kind::Message, "late")).await;
        assert_eq!(late, Err(ExchangeError::Finished));
    });
    world.sim.settle();
    assert_eq!((world.client.stats().resets_sent, world.server.stats().resets_sent), (0, 0));
    assert_eq!(world.client.stats().outbound_streams, 0);
}

#[test]
fn a_lost_connection_reaches_every_waiter() {
    let mut world = World::new(10);
    let mut waiters = Vec::new();
    for _ in 0..50 {
        let (mut near, far) = world.pair();
        waiters.push(world.sim.spawn(async move { (near.recv().await, far) }));
    }
    world.server.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    world.sim.settle();
    for waiter in waiters {
        let (error, _far) = waiter.take().unwrap();
        assert_eq!(error.unwrap_err().code(), Code::Network);
    }
}

#[test]
fn a_slow_reader_stalls_only_itself() {
    let mut world = World::new(11);
    let (mut near, far) = world.pair();
    let stuck = world.sim.spawn(async move {
        loop {
            near.send(Message::new(Kind::Message, vec![0; 10_000])).await.unwrap();
        }
    });
    world.sim.settle();
    let start = world.sim.now();
    let (mut quick, mut other) = world.pair();
    world.sim.run(async move {
        other.send_last(Message::new(Kind::Response, "fast")).await.unwrap();
        quick.recv_kind(Kind::Response).await.unwrap();
    });
    assert!(world.sim.now() - start < Duration::from_millis(50));
    assert!(!stuck.is_ready());
    drop(far);
}

#[test]
fn a_full_connection_holds_senders_back_and_not_control() {
    let mut world = World::new(26);
    let (mut near, far) = world.pair();
    let sent = Rc::new(Cell::new(0));
    let counter = sent.clone();
    let (task, stuck) = world.sim.spawn_flagged(async move {
        loop {
            near.send(Message::new(Kind::Message, vec![0; 10_000])).await.unwrap();
            counter.set(counter.get() + 10_000);
        }
    });
    world.sim.settle();
    assert!(!stuck.is_ready() && sent.get() < 2 << 20, "{} bytes sent", sent.get());
    let client = world.client.clone();
    assert!(world.sim.run(async move { client.ping().await }).is_ok());
    // The reset passes, too.
    world.sim.drop_task(task);
    world.sim.settle();
    let mut far = far;
    assert_eq!(far.cancelled().now_or_never(), Some(ExchangeError::Cancelled));
}

#[test]
fn what_comes_too_late_is_counted_and_skipped() {
    // spec.md §4.8
    let mut world = World::new(27);
    let (near, mut far) = world.pair();
    // The answer and the reset pass one another.
    let answer = Message::new(Kind::Response, "late");
    assert!(far.send_last(answer).now_or_never().unwrap().is_ok());
    near.reset(ResetCode::CANCELLED);
    world.sim.settle();
    assert!(world.client.stats().late_frames > 0);
    let (mut near, mut far) = world.pair();
    world.sim.run(async move {
        far.send(Message::new(Kind::Message, "alive")).await.unwrap();
        assert_eq!(near.recv().await.unwrap().unwrap().body, "alive");
    });
}

#[test]
fn what_is_no_message_ends_its_exchange_alone() {
    // spec.md §14.2.8
    let mut world = World::new(12);
    let (mut near, mut far) = world.pair();
    let client = world.client.clone();
    let bad = world.sim.run(async move {
        let mut stream = Dispatcher::open(&client, Protocol::EXCHANGE).await.unwrap();
        futures::AsyncWriteExt::write_all(&mut stream, &[9; 8]).await.unwrap();
        stream
    });
    let mut broken = world.accept();
    world.sim.run(async move {
        let error = broken.recv().await.unwrap_err();
        assert_eq!(error, ExchangeError::Malformed(Malformed::UnknownKind(9)));
        assert_eq!(error.code(), Code::Protocol);
        let mut bad = bad;
        let (_, error) = support::read_all(&mut bad).await;
        let reset = trunkline::StreamError::Reset(ResetCode::PROTOCOL_ERROR);
        assert_eq!(error, Some(reset));
        far.send(Message::new(Kind::Message, "alive")).await.unwrap();
        assert_eq!(near.recv().await.unwrap().unwrap().body, "alive");
    });
}

#[test]
fn too_large_a_message_is_not_sent_and_the_exchange_goes_on() {
    let mut world = World::new(13);
    let (mut near, mut far) = world.pair();
    world.sim.run(async move {
        let large = Message::new(Kind::Message, vec![0; (4 << 20) + 1]);
        assert_eq!(near.send(large).await, Err(ExchangeError::TooLarge((4 << 20) + 1)));
        near.send(Message::new(Kind::Message, "small")).await.unwrap();
        assert_eq!(far.recv().await.unwrap().unwrap().body, "small");
    });
}

#[test]
fn a_send_may_be_dropped_after_any_poll() {
    for polls in 0..count(600) {
        let mut world = World::new(polls);
        let (mut near, mut far) = world.pair();
        world.sim.run_for(Duration::from_secs(60), async move {
            let big = pattern(polls, 700_000);
            let expected = big.clone();
            let dropped = async move {
                let send = near.send(Message::new(Kind::Message, big));
                let limited = futures::future::select(
                    Box::pin(send),
                    Box::pin(support::pause(polls as usize)),
                );
                drop(limited.await);
                near.send_last(Message::new(Kind::Response, "after")).await.unwrap();
                near
            };
            let read = async move {
                let mut found = Vec::new();
                while let Some(message) = far.recv().await.unwrap() {
                    found.push(message);
                }
                found
            };
            let (_near, found) = futures::join!(dropped, read);
            assert_eq!(found.last().unwrap().body, "after");
            assert!(found.len() == 1 || found[0].body == expected, "whole or not at all");
        });
    }
}

#[test]
fn a_finish_may_be_dropped_and_made_again() {
    let mut world = World::new(29);
    let (mut near, mut far) = world.pair();
    let big = pattern(29, 3_000_000);
    let expected = big.clone();
    world.sim.run_for(Duration::from_secs(60), async move {
        // More than there is room for: the message is begun, and waits.
        assert_eq!(near.send(Message::new(Kind::Message, big)).now_or_never(), None);
        assert_eq!(near.finish().now_or_never(), None);
        let finish = async {
            near.finish().await.unwrap();
            near.finish().await.unwrap();
            near
        };
        let read = async {
            assert!(far.recv().await.unwrap().unwrap().body == expected);
            assert_eq!(far.recv().await, Ok(None));
        };
        futures::join!(finish, read);
    });
}

#[test]
fn either_end_may_wait_for_longer_than_the_close_timeout() {
    // spec.md §7.4.4
    let mut world = World::new(25);
    let (mut near, mut far) = world.pair();
    let (near, far) = world.sim.run(async move {
        far.finish().await.unwrap();
        assert_eq!(near.recv().await, Ok(None));
        (near, far)
    });
    let (mut waiting, mut other) = world.pair();
    let (waiting, other) = world.sim.run(async move {
        waiting.finish().await.unwrap();
        assert_eq!(other.recv().await, Ok(None));
        (waiting, other)
    });
    world.sim.advance(Duration::from_secs(3_600));
    for (mut speaks, mut hears) in [(near, far), (other, waiting)] {
        world.sim.run(async move {
            speaks.send_last(Message::new(Kind::Message, "at last")).await.unwrap();
            assert_eq!(hears.recv().await.unwrap().unwrap().body, "at last");
            assert_eq!(hears.recv().await, Ok(None));
        });
    }
}

#[test]
fn who_waits_for_a_cancel_hears_of_the_deadline() {
    let mut world = World::new(30);
    let (near, mut far) = world.pair_with(Some(Duration::from_secs(2)));
    let told = world.sim.spawn(async move { far.cancelled().await });
    world.sim.advance(Duration::from_millis(1_990));
    assert!(!told.is_ready());
    world.sim.advance(Duration::from_millis(20));
    assert_eq!(told.take(), Some(ExchangeError::Timeout));
    drop(near);
}

#[test]
fn an_exchange_that_waits_for_a_stream_waits_no_longer_than_its_deadline() {
    // spec.md §14.4.3
    let mut sim = Sim::new(31);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, _server) = sim.pair_with(1 << 16, config.clone(), config);
    let mut first = Exchange::open(&client, &ExchangeConfig::default());
    let mut second = Exchange::open(&client, &ExchangeConfig::default());
    second.set_deadline(sim.now() + Duration::from_secs(2)).unwrap();
    let first = sim.run(async move {
        first.send(Message::new(Kind::Request, "x")).await.unwrap();
        first
    });
    let told = sim.spawn(async move { second.send(Message::new(Kind::Request, "y")).await });
    sim.advance(Duration::from_millis(1_999));
    assert!(!told.is_ready());
    sim.advance(Duration::from_millis(2));
    assert_eq!(told.take(), Some(Err(ExchangeError::Timeout)));
    drop(first);
}

/// The time to live that travels is what is left when the message does.
#[test]
fn an_exchange_that_waited_for_a_stream_says_how_much_time_is_left() {
    // spec.md §14.4.1
    let mut sim = Sim::new(43);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, server) = sim.pair_with(1 << 16, config.clone(), config);
    let mut dispatcher = Dispatcher::new(server.clone());
    let mut streams = dispatcher.serve(Protocol::EXCHANGE, 8).unwrap();
    sim.spawn(dispatcher.run());
    let mut first = Exchange::open(&client, &ExchangeConfig::default());
    let mut second = Exchange::open(&client, &ExchangeConfig::default());
    let at = sim.now() + Duration::from_secs(5);
    second.set_deadline(at).unwrap();
    let first = sim.run(async move {
        first.send(Message::new(Kind::Request, "x")).await.unwrap();
        first
    });
    let sent = sim.spawn(async move {
        second.send(Message::new(Kind::Request, "y")).await.unwrap();
        second
    });
    sim.advance(Duration::from_millis(2_000));
    drop(first);
    sim.settle();
    let second = sent.take().unwrap();
    let far = sim.run(async move {
        let gone = streams.next().await.unwrap();
        drop(Exchange::accept(&server, gone, &ExchangeConfig::default()));
        let stream = streams.next().await.unwrap();
        let mut far = Exchange::accept(&server, stream, &ExchangeConfig::default());
        assert_eq!(far.recv_kind(Kind::Request).await.unwrap().body, "y");
        far
    });
    let late = far.deadline().unwrap().saturating_duration_since(at);
    assert!(late <= Duration::from_millis(10), "{late:?} after the deadline of who asked");
    drop(second);
}

/// With less than a millisecond left when its turn has come, nothing is sent.
#[test]
fn an_exchange_that_waited_until_it_was_too_late_sends_nothing() {
    // spec.md §14.4.2
    let mut sim = Sim::new(44);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, server) = sim.pair_with(1 << 16, config.clone(), config);
    let first = sim.run({
        let client = client.clone();
        async move { client.open().await.unwrap() }
    });
    let mut second = Exchange::open(&client, &ExchangeConfig::default());
    second.set_deadline(sim.now() + Duration::from_secs(2)).unwrap();
    let told = sim.spawn(async move { second.send(Message::new(Kind::Request, "y")).await });
    sim.advance(Duration::from_micros(1_999_600));
    assert!(!told.is_ready());
    drop(first);
    sim.settle();
    assert_eq!(told.take(), Some(Err(ExchangeError::Timeout)));
    assert_eq!(server.stats().bytes_received, 0);
}

/// A clock that counts the sleeps.
#[derive(Debug)]
struct Counting {
    clock: Arc<ManualTimer>,
    sleeps: AtomicUsize,
}

impl Timer for Counting {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        self.clock.sleep_until(at)
    }
}

#[test]
fn those_who_wait_for_a_stream_have_no_sleep_of_their_own() {
    // spec.md §14.4.3
    let mut sim = Sim::new(37);
    let timer = Arc::new(Counting { clock: sim.timer(), sleeps: AtomicUsize::new(0) });
    let config = sim.config().timer(timer.clone()).max_outbound_streams(1).build().unwrap();
    let (client, _server) = sim.pair_with(1 << 16, config.clone(), config);
    let mut first = Exchange::open(&client, &ExchangeConfig::default());
    let first = sim.run(async move {
        first.send(Message::new(Kind::Request, "x")).await.unwrap();
        first
    });
    sim.settle();
    // Each has patience for another number of seconds, in no order.
    let start = sim.now();
    let patience: Vec<u64> = (0..100).map(|number| number * 37 % 100 + 1).collect();
    let told: Vec<_> = patience
        .iter()
        .map(|seconds| {
            let mut exchange = Exchange::open(&client, &ExchangeConfig::default());
            exchange.set_deadline(start + Duration::from_secs(*seconds)).unwrap();
            let asking = async move {
                let asked = exchange.send(Message::new(Kind::Request, "y")).await;
                asked.map(|()| exchange)
            };
            sim.spawn(asking)
        })
        .collect();
    let before = timer.sleeps.load(Ordering::Relaxed);
    sim.settle();
    let sleeps = timer.sleeps.load(Ordering::Relaxed) - before;
    assert!(sleeps < 10, "{sleeps} sleeps for 100 who wait");
    for second in 1..=50 {
        sim.advance(Duration::from_secs(1));
        for (told, patience) in told.iter().zip(&patience) {
            assert_eq!(told.is_ready(), *patience <= second, "{patience} at {second}");
        }
    }
    // One of those left is next.
    drop(first);
    sim.settle();
    let mut served = 0;
    for (told, patience) in told.iter().zip(&patience) {
        match told.take() {
            Some(Err(error)) => {
                assert_eq!((error, *patience <= 50), (ExchangeError::Timeout, true))
            }
            Some(Ok(_)) => served += 1,
            None => assert!(*patience > 50),
        }
    }
    assert_eq!(served, 1);
}

#[test]
fn a_sender_without_room_hears_why_the_other_side_ended() {
    let mut world = World::new(32);
    let mut near = Exchange::open(&world.client, &ExchangeConfig::default());
    let stuck = world
        .sim
        .spawn(async move { near.send(Message::new(Kind::Request, vec![0; 4_000_000])).await });
    let mut streams = world.streams.take().unwrap();
    let mut far = world.sim.run(async move { streams.next().await.unwrap() });
    world.sim.settle();
    assert!(!stuck.is_ready());
    let mut why = Vec::new();
    encode(&Message::new(Kind::Error, &b"\x03full"[..]), None, 100, &mut why);
    world.sim.run(async move {
        futures::AsyncWriteExt::write_all(&mut far, &why).await.unwrap();
        far.reset(ResetCode::OVERLOADED);
    });
    world.sim.settle();
    let said = ExchangeError::Remote { code: Code::Busy, message: "full".to_owned() };
    assert_eq!(stuck.take(), Some(Err(said)));
}

#[test]
fn a_sender_without_room_waits_no_longer_than_its_deadline() {
    // spec.md §14.4.3
    let mut world = World::new(33);
    let client = world.client.clone();
    let mut near = Exchange::open(&client, &ExchangeConfig::default());
    near.set_deadline(world.sim.now() + Duration::from_secs(2)).unwrap();
    let stuck = world
        .sim
        .spawn(async move { near.send(Message::new(Kind::Request, vec![0; 4_000_000])).await });
    let server = world.server.clone();
    let mut streams = world.streams.take().unwrap();
    let mut other = world.sim.run(async move { streams.next().await.unwrap() });
    world.sim.advance(Duration::from_millis(1_999));
    assert!(!stuck.is_ready());
    world.sim.advance(Duration::from_millis(2));
    assert_eq!(stuck.take(), Some(Err(ExchangeError::Timeout)));
    // The other side is told that it was the time.
    let (_, error) = world.sim.run(async move { support::read_all(&mut other).await });
    assert_eq!(error, Some(trunkline::StreamError::Reset(ResetCode::EXPIRED)));
    drop(server);
}

#[test]
fn a_deadline_that_is_moved_holds_for_a_message_on_its_way() {
    // Later, and sooner.
    for (first, then) in [(1, 5), (5, 1)] {
        let mut world = World::new(36);
        let client = world.client.clone();
        let start = world.sim.now();
        let mut near = Exchange::open(&client, &ExchangeConfig::default());
        near.set_deadline(start + Duration::from_secs(first)).unwrap();
        let stuck = world.sim.spawn(async move {
            let send = near.send(Message::new(Kind::Request, vec![0; 4_000_000]));
            // Until there is no room.
            let given_up = futures::future::select(Box::pin(send), Box::pin(support::pause(500)));
            drop(given_up.await);
            near.set_deadline(start + Duration::from_secs(then)).unwrap();
            near.finish().await
        });
        world.sim.advance(Duration::from_millis(then * 1_000 - 1));
        assert!(!stuck.is_ready(), "before {then} s");
        world.sim.advance(Duration::from_millis(2));
        assert_eq!(stuck.take(), Some(Err(ExchangeError::Timeout)), "after {then} s");
    }
}

#[test]
fn an_opener_waits_for_a_response_and_for_nothing_behind_it() {
    // spec.md §14.1.4
    for (kind, cancelled) in [(Kind::Response, false), (Kind::Message, true)] {
        let mut world = World::new(34);
        let (mut near, mut far) = world.pair();
        let mut far = world.sim.run(async move {
            near.finish().await.unwrap();
            far.send(Message::new(kind, "x")).await.unwrap();
            near.recv_kind(kind).await.unwrap();
            drop(near);
            far
        });
        world.sim.settle();
        assert_eq!(far.cancelled().now_or_never().is_some(), cancelled, "{kind:?}");
    }
}

#[test]
fn no_timer_means_no_deadline() {
    let (left, _right) = trunkline::transport::memory::duplex(64);
    let config = trunkline::Config::builder().no_timer().build().unwrap();
    let (session, _driver) = Session::client(left, config);
    let mut exchange = Exchange::open(&session, &ExchangeConfig::default());
    let at = Instant::now();
    assert_eq!(exchange.set_deadline(at), Err(ExchangeError::NoTimer));
}

#[test]
fn an_exchange_on_a_dead_session_was_never_sent() {
    let mut world = World::new(24);
    world.client.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    world.sim.settle();
    let mut exchange = Exchange::open(&world.client, &ExchangeConfig::default());
    let failed = world
        .sim
        .run(async move { exchange.send(Message::new(Kind::Request, "x")).await.unwrap_err() });
    assert!(failed.reached_nobody());
    let aborted = SessionError::Aborted(trunkline::GoAwayCode::INTERNAL_ERROR);
    assert_eq!(failed, ExchangeError::Open(trunkline::OpenError::Session(aborted)));
}
