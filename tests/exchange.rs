//! Exchanges and their sets, on a virtual clock.
#![allow(clippy::unwrap_used)]

#[path = "support/sim_runtime.rs"]
mod sim_runtime;
mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::join_all};
use sim_runtime::runtime;
use support::{Sim, count, pattern};
use trunkline::{
    Dispatcher, Protocol, ResetCode, Session, SessionError, Streams,
    exchange::{
        Code, Event, Exchange, ExchangeConfig, ExchangeError, ExchangeSet, Health, Inbound, Kind,
        Malformed, Message, SetConfig,
    },
    runtime::Runtime,
};

struct World {
    sim: Sim,
    runtime: Runtime,
    client: Session,
    server: Session,
    streams: Option<Streams>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let runtime = runtime(&mut sim);
        let (client, server) = sim.pair(1 << 16);
        let mut dispatcher = Dispatcher::new(server.clone());
        let streams = dispatcher.serve(Protocol::EXCHANGE, 256).unwrap();
        sim.spawn(dispatcher.run());
        Self { sim, runtime, client, server, streams: Some(streams) }
    }

    /// The far end of an exchange whose first message is on its way.
    fn accept(&mut self) -> Exchange {
        let mut streams = self.streams.take().unwrap();
        let (stream, streams) =
            self.sim.run(async move { (streams.next().await.unwrap(), streams) });
        self.streams = Some(streams);
        Exchange::accept(&self.server, stream, &ExchangeConfig::default())
    }

    fn pair(&mut self) -> (Exchange, Exchange) {
        self.pair_with(None)
    }

    fn pair_with(&mut self, time: Option<Duration>) -> (Exchange, Exchange) {
        let mut near = Exchange::open(&self.client, &ExchangeConfig::default());
        if let Some(time) = time {
            near.set_deadline(self.sim.now() + time).unwrap();
        }
        let near = self.sim.run(async move {
            near.send(Message::new(Kind::Request, "ask")).await.unwrap();
            near
        });
        let mut far = self.accept();
        let far = self.sim.run(async move {
            assert_eq!(far.recv_kind(Kind::Request).await.unwrap().body, "ask");
            far
        });
        (near, far)
    }

    fn sets(&mut self, near: SetConfig, far: SetConfig) -> (ExchangeSet, ExchangeSet, Inbound) {
        let near = ExchangeSet::new(self.client.clone(), &self.runtime, near).unwrap();
        let far = ExchangeSet::new(self.server.clone(), &self.runtime, far).unwrap();
        let inbound = far.incoming(self.streams.take().unwrap());
        (near, far, inbound)
    }
}

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
    world.sim.advance(Duration::from_millis(49));
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
        assert_eq!(far.recv().await, Ok(None));
        far.send_last(Message::new(Kind::Response, "done")).await.unwrap();
        near.recv_kind(Kind::Response).await.unwrap();
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
fn a_set_counts_its_exchanges_and_tells_of_each_once() {
    let mut world = World::new(14);
    let events = Arc::new(Mutex::new(Vec::new()));
    let hook = events.clone();
    let config = SetConfig::default().on_outbound(move |event| hook.lock().unwrap().push(event));
    let (near, far, mut inbound) = world.sets(config, SetConfig::default());
    let mut exchange = near.open(Some(world.sim.now() + Duration::from_secs(1))).unwrap();
    let other = near.open(None).unwrap();
    assert_eq!(near.outbound.len(), 2);
    let far_exchange = world.sim.run(async move {
        exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
        let mut far = inbound.next().await.unwrap();
        far.recv().await.unwrap();
        (exchange, far, inbound)
    });
    assert_eq!((far.inbound.len(), far.outbound.len()), (1, 0));
    // Expiry, then drop: one removal.
    world.sim.advance(Duration::from_secs(2));
    assert_eq!((near.outbound.len(), far.inbound.len()), (1, 0));
    assert_eq!(*events.lock().unwrap(), [Event::Added(1), Event::Added(2), Event::Removed(1)]);
    drop(far_exchange);
    drop(other);
    world.sim.settle();
    let all = [Event::Added(1), Event::Added(2), Event::Removed(1), Event::Removed(2)];
    assert_eq!(*events.lock().unwrap(), all);
    let stats = near.outbound.stats();
    assert_eq!((stats.added, stats.expired, near.outbound.len()), (2, 1, 0));
}

#[test]
fn expiry_resets_the_stream_though_nobody_looks() {
    let mut world = World::new(15);
    let (near, _far, mut inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let deadline = world.sim.now() + Duration::from_secs(1);
    let held = world.sim.run(async move {
        let mut exchange = near.open(Some(deadline)).unwrap();
        exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
        let mut far = inbound.next().await.unwrap();
        far.recv().await.unwrap();
        (exchange, far, near, inbound)
    });
    assert_eq!(world.client.stats().outbound_streams, 1);
    world.sim.advance(Duration::from_secs(2));
    let (client, server) = (world.client.stats(), world.server.stats());
    assert_eq!((client.outbound_streams, server.inbound_streams), (0, 0));
    let (mut near, mut far, ..) = held;
    assert_eq!(near.recv().now_or_never(), Some(Err(ExchangeError::Timeout)));
    assert_eq!(far.recv().now_or_never(), Some(Err(ExchangeError::Timeout)));
}

#[test]
fn draining_waits_for_the_handler_of_an_expired_exchange() {
    let mut world = World::new(16);
    let (near, far, mut inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let deadline = world.sim.now() + Duration::from_secs(1);
    let (handler, keep) = world.sim.run(async move {
        let mut exchange = near.open(Some(deadline)).unwrap();
        exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
        let mut handler = inbound.next().await.unwrap();
        handler.recv().await.unwrap();
        (handler, (exchange, near, inbound))
    });
    world.sim.advance(Duration::from_secs(2));
    assert_eq!(far.inbound.len(), 0);
    let waiting = far.inbound.clone();
    let drained = world.sim.spawn(async move { waiting.drained().await });
    world.sim.settle();
    assert!(!drained.is_ready());
    drop(handler);
    world.sim.settle();
    assert!(drained.is_ready());
    drop(keep);
}

#[test]
fn all_waiters_get_the_first_error() {
    let mut world = World::new(17);
    let (near, _far, inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let mut waiters = Vec::new();
    for _ in 0..100 {
        let mut exchange = near.open(None).unwrap();
        waiters.push(world.sim.spawn(async move {
            exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
            let first = exchange.recv().await;
            (first, exchange.recv().await)
        }));
    }
    world.sim.settle();
    near.fail_all(&ExchangeError::Failed(Code::Unavailable));
    near.fail_all(&ExchangeError::Failed(Code::Internal));
    world.sim.settle();
    for waiter in waiters {
        let expected = Err(ExchangeError::Failed(Code::Unavailable));
        assert_eq!(waiter.take(), Some((expected.clone(), expected)));
    }
    assert_eq!(near.open(None).unwrap_err(), ExchangeError::SetClosed);
    drop(inbound);
}

#[test]
fn a_closing_set_refuses_new_and_loses_none() {
    let mut world = World::new(18);
    let (near, far, mut inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let calls = near.clone();
    let answers = world.sim.spawn(async move {
        let calls = (0..100).map(|_| async {
            let mut exchange = calls.open(None).unwrap();
            exchange.send_last(Message::new(Kind::Request, "x")).await.unwrap();
            exchange.recv_kind(Kind::Response).await
        });
        join_all(calls).await
    });
    let clock = world.runtime.clone();
    let closing = far.clone();
    let closed = world.sim.spawn(async move {
        let mut taken = Vec::new();
        for _ in 0..100 {
            taken.push(inbound.next().await.unwrap());
        }
        let close = closing.close();
        let answer = async {
            clock.sleep_until(clock.now() + Duration::from_secs(1)).await;
            for mut exchange in taken {
                exchange.send_last(Message::new(Kind::Response, "y")).await.unwrap();
            }
        };
        futures::join!(close, answer);
        inbound
    });
    world.sim.advance(Duration::from_millis(500));
    assert!(!closed.is_ready());
    let late = near.clone();
    let _serving = world.sim.spawn(async move {
        let mut exchange = late.open(None).unwrap();
        let _ = exchange.send_last(Message::new(Kind::Request, "late")).await;
        exchange.recv().await
    });
    world.sim.advance(Duration::from_secs(1));
    let mut inbound = closed.take().unwrap();
    assert!(inbound.next().now_or_never().is_none(), "refused on the way in");
    assert!(answers.take().unwrap().iter().all(Result::is_ok));
    world.sim.settle();
    assert_eq!(_serving.take(), Some(Err(ExchangeError::Refused)));
    assert_eq!(far.inbound.stats().turned_away, 1);
}

#[test]
fn a_full_set_refuses_one_more() {
    let mut world = World::new(19);
    let far = SetConfig::default().max_inbound(1);
    let (near, _far, mut inbound) = world.sets(SetConfig::default().max_outbound(2), far);
    let mut first = near.open(None).unwrap();
    let mut second = near.open(None).unwrap();
    assert_eq!(near.open(None).unwrap_err(), ExchangeError::SetFull);
    world.sim.run(async move {
        first.send(Message::new(Kind::Request, "1")).await.unwrap();
        let _held = inbound.next().await.unwrap();
        second.send(Message::new(Kind::Request, "2")).await.unwrap();
        let (refused, _) = futures::join!(second.recv(), async {
            futures::future::select(Box::pin(inbound.next()), Box::pin(support::pause(200))).await
        });
        let error = refused.unwrap_err();
        assert_eq!(error, ExchangeError::Refused);
        assert!(error.reached_nobody());
    });
}

#[test]
fn an_idle_session_is_closed_and_pings_do_not_count() {
    let mut world = World::new(20);
    let near = SetConfig::default().idle_timeout(Some(Duration::from_secs(60)));
    let (near, _far, inbound) = world.sets(near, SetConfig::default());
    world.sim.advance(Duration::from_secs(50));
    let exchange = near.open(None).unwrap();
    world.sim.advance(Duration::from_secs(100));
    assert!(!world.client.is_closed(), "one exchange is enough");
    drop(exchange);
    let client = world.client.clone();
    world.sim.advance(Duration::from_secs(59));
    world.sim.run(async move { client.ping().await }).unwrap();
    assert!(!world.client.is_closed());
    world.sim.advance(Duration::from_secs(5));
    assert!(world.client.is_closed());
    drop(inbound);
}

#[test]
fn a_session_that_answers_no_pings_is_ended() {
    let mut sim = Sim::new(21);
    let runtime = runtime(&mut sim);
    let config = sim.config().keepalive(None).ping_timeout(Duration::from_secs(2)).build().unwrap();
    let (client, _silent) = sim.client_with_peer(config);
    let health = Health { interval: Duration::from_secs(10), failures: 5 };
    let set = SetConfig::default().health(Some(health));
    let set = ExchangeSet::new(client.clone(), &runtime, set).unwrap();
    let mut exchange = set.open(None).unwrap();
    let failed = sim.spawn(async move {
        exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
        exchange.recv().await.unwrap_err()
    });
    sim.advance(Duration::from_secs(55));
    assert!(!failed.is_ready(), "four failures are not five");
    sim.advance(Duration::from_secs(20));
    assert_eq!(failed.take().unwrap().code(), Code::Network);
}

#[test]
fn the_end_of_the_session_closes_its_set() {
    let mut world = World::new(22);
    let (near, _far, inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let client = world.client.clone();
    world.sim.run_for(Duration::from_secs(60), async move { client.close().await }).unwrap();
    world.sim.settle();
    assert_eq!(near.open(None).unwrap_err(), ExchangeError::SetClosed);
    drop(inbound);
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
fn no_timer_means_no_deadline() {
    let (left, _right) = trunkline::transport::memory::duplex(64);
    let config = trunkline::Config::builder().no_timer().build().unwrap();
    let (session, _driver) = Session::client(left, config);
    let mut exchange = Exchange::open(&session, &ExchangeConfig::default());
    let at = std::time::Instant::now();
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
