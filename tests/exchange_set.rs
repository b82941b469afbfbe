//! Sets of exchanges: counting, draining and ending them, on a virtual clock.
#![allow(clippy::unwrap_used)]

#[path = "support/exchanges.rs"]
mod exchanges;
mod support;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use exchanges::{World, runtime};
use futures::{FutureExt, StreamExt, future::join_all};
use support::{ACK, Flag, PING, SYN, Sim, header};
use trunkline::exchange::{
    Code, Event, ExchangeError, ExchangeSet, Health, Kind, Message, SetConfig,
};

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
fn a_hook_that_panics_harms_nobody() {
    let mut world = World::new(26);
    // Not `panic!`: nothing is printed that way.
    let near =
        SetConfig::default().on_outbound(|event: Event| std::panic::resume_unwind(Box::new(event)));
    let (set, _far, _inbound) = world.sets(near, SetConfig::default());
    // It joins and leaves,
    let left = set.open(None).unwrap();
    let drained = set.outbound.clone();
    let drained = world.sim.spawn(async move { drained.drained().await });
    world.sim.settle();
    assert!(!drained.is_ready());
    drop(left);
    world.sim.settle();
    assert!(drained.is_ready() && set.outbound.is_empty());
    // or expires, with another behind it whose time is kept too.
    let at = |seconds| Some(world.sim.now() + Duration::from_secs(seconds));
    let _one = set.open(at(1)).unwrap();
    let _other = set.open(at(2)).unwrap();
    world.sim.advance(Duration::from_millis(1_001));
    assert_eq!((set.outbound.len(), set.outbound.stats().expired), (1, 1));
    world.sim.advance(Duration::from_secs(1));
    assert_eq!((set.outbound.len(), set.outbound.stats().expired), (0, 2));
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
fn who_waits_for_a_drain_no_more_leaves_nothing_behind() {
    let mut world = World::new(24);
    let (near, _far, inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let exchange = near.open(None).unwrap();
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(pin!(near.outbound.drained()).poll(&mut cx).is_pending());
    assert_eq!(Arc::strong_count(&flag), 2, "only the one here");
    let mut drained = Box::pin(near.outbound.drained());
    assert!(drained.as_mut().poll(&mut cx).is_pending());
    drop(exchange);
    assert!(flag.take() && drained.as_mut().poll(&mut cx).is_ready());
    drop(inbound);
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
fn the_first_error_stays_whatever_follows() {
    // spec.md §14.3.1
    let mut world = World::new(28);
    let (near, far, mut inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let second = world.sim.now() + Duration::from_secs(1);
    let mut expiring = near.open(Some(second)).unwrap();
    let mut shut = near.open(None).unwrap();
    let (expiring, shut, mut answered, held) = world.sim.run(async move {
        expiring.send(Message::new(Kind::Request, "x")).await.unwrap();
        let expiring_far = inbound.next().await.unwrap();
        shut.send(Message::new(Kind::Request, "y")).await.unwrap();
        let mut shut_far = inbound.next().await.unwrap();
        shut_far.recv_kind(Kind::Request).await.unwrap();
        shut_far.send(Message::new(Kind::Message, "before")).await.unwrap();
        (expiring, shut, shut_far, (expiring_far, inbound))
    });
    world.sim.advance(Duration::from_secs(2));
    // The set is shut first; then everything else goes wrong too.
    near.close().now_or_never();
    near.close().now_or_never();
    near.fail_all(&ExchangeError::Failed(Code::Unavailable));
    near.fail_all(&ExchangeError::Failed(Code::Internal));
    world.sim.settle();
    world.client.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    world.sim.settle();
    let expected = [ExchangeError::Timeout, ExchangeError::Failed(Code::Unavailable)];
    for (mut exchange, expected) in [expiring, shut].into_iter().zip(expected) {
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(exchange.recv().now_or_never().unwrap());
        }
        if expected != ExchangeError::Timeout {
            // What arrived before is read before.
            assert_eq!(order.remove(0).unwrap().unwrap().body, "before");
        }
        assert!(order.iter().all(|read| *read == Err(expected.clone())), "{order:?}");
        let sent = exchange.send(Message::new(Kind::Message, "z")).now_or_never();
        assert_eq!(sent, Some(Err(expected.clone())));
        assert_eq!(exchange.cancelled().now_or_never(), Some(expected));
    }
    // Shut before it was failed: that is what who comes later is told.
    assert_eq!(near.open(None).unwrap_err(), ExchangeError::SetClosed);
    assert_eq!(answered.recv().now_or_never().unwrap().unwrap_err().code(), Code::Network);
    drop((far, held));
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
    // Pings after 10, 22, 34, 46 and 58 s, each waited for two.
    sim.advance(Duration::from_secs(6));
    assert_eq!(failed.take().unwrap().code(), Code::Network);
}

#[test]
fn a_session_without_a_timer_has_no_health_to_watch() {
    let mut world = World::new(25);
    let untimed = world.sim.config().no_timer().build().unwrap();
    let (session, _far) = world.sim.pair_with(1 << 16, untimed.clone(), untimed);
    let make = |config: SetConfig| ExchangeSet::new(session.clone(), &world.runtime, config);
    assert!(make(SetConfig::default()).is_ok());
    let health = Some(Health { interval: Duration::from_secs(1), failures: 3 });
    let refused = make(SetConfig::default().health(health)).unwrap_err();
    assert!(refused.to_string().contains("health") && refused.to_string().contains("timer"));
}

#[test]
fn an_answered_ping_makes_up_for_those_before() {
    let mut sim = Sim::new(29);
    let runtime = runtime(&mut sim);
    let config = sim.config().keepalive(None).ping_timeout(Duration::from_secs(2)).build().unwrap();
    let (client, mut raw) = sim.client_with_peer(config);
    let health = Health { interval: Duration::from_secs(10), failures: 2 };
    let set = SetConfig::default().health(Some(health));
    let _set = ExchangeSet::new(client.clone(), &runtime, set).unwrap();
    for round in 0..6 {
        sim.advance(Duration::from_millis(10_500));
        let asked = raw.receive().0;
        let ping = asked.iter().find(|frame| frame.kind == PING && frame.flags == SYN);
        if round % 2 == 1 {
            raw.send(&header(PING, ACK, 0, ping.expect("a ping").length));
        } else {
            sim.advance(Duration::from_secs(2));
        }
        assert!(!client.is_closed(), "round {round}");
        sim.settle();
    }
    sim.advance(Duration::from_secs(30));
    assert!(client.is_closed());
}

#[test]
fn whoever_waits_for_anything_gets_the_sets_error() {
    let mut world = World::new(26);
    let (near, _far, mut inbound) = world.sets(SetConfig::default(), SetConfig::default());
    let mut exchanges: Vec<_> = (0..3).map(|_| near.open(None).unwrap()).collect();
    let (mut silent, mut stuck, mut watching) = {
        let [c, b, a] = [exchanges.pop(), exchanges.pop(), exchanges.pop()].map(Option::unwrap);
        (a, b, c)
    };
    let held = world.sim.run(async move {
        let mut held = Vec::new();
        for exchange in [&mut silent, &mut stuck, &mut watching] {
            exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
            held.push(inbound.next().await.unwrap());
        }
        (silent, stuck, watching, held, inbound)
    });
    let (mut silent, mut stuck, mut watching, held, inbound) = held;
    let stuck = world.sim.spawn(async move {
        stuck.send(Message::new(Kind::Message, vec![0; 4_000_000])).await.unwrap_err()
    });
    let watching = world.sim.spawn(async move { watching.cancelled().await });
    world.sim.settle();
    assert!(!stuck.is_ready() && !watching.is_ready());
    let expected = ExchangeError::Failed(Code::Unavailable);
    near.fail_all(&expected);
    world.sim.settle();
    assert_eq!((stuck.take(), watching.take()), (Some(expected.clone()), Some(expected.clone())));
    // Who looks later, and has lost the session too, hears of what came first.
    world.client.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    world.sim.settle();
    let sent = silent.send(Message::new(Kind::Message, "y")).now_or_never();
    assert_eq!(sent, Some(Err(expected)));
    drop((held, inbound));
}

#[test]
fn nothing_is_sent_once_a_set_has_failed() {
    let mut sim = Sim::new(32);
    let runtime = runtime(&mut sim);
    let config = sim.config().max_outbound_streams(1).build().unwrap();
    let (client, server) = sim.pair_with(1 << 16, config.clone(), config);
    let set = ExchangeSet::new(client.clone(), &runtime, SetConfig::default()).unwrap();
    let mut exchanges = [(); 3].map(|()| set.open(None).unwrap()).into_iter();
    let (mut open, mut waits, mut idle) =
        (exchanges.next().unwrap(), exchanges.next().unwrap(), exchanges.next().unwrap());
    let open = sim.run(async move {
        open.send(Message::new(Kind::Request, "x")).await.unwrap();
        open
    });
    // There is one stream, and it is taken.
    let waits = sim.spawn(async move { waits.send(Message::new(Kind::Request, "y")).await });
    sim.settle();
    assert!(!waits.is_ready());
    let expected = ExchangeError::Failed(Code::Unavailable);
    set.fail_all(&expected);
    sim.settle();
    assert_eq!(waits.take(), Some(Err(expected.clone())));
    let received = server.stats().frames_received;
    let mut open = open;
    for exchange in [&mut open, &mut idle] {
        let late = exchange.send(Message::new(Kind::Message, "z")).now_or_never();
        assert_eq!(late, Some(Err(expected.clone())));
        assert_eq!(exchange.finish().now_or_never(), Some(Err(expected.clone())));
    }
    sim.settle();
    // No more than the reset of the one that was open.
    assert!(server.stats().frames_received <= received + 1);
}

#[test]
fn expiry_resets_the_stream_without_the_other_sides_help() {
    let mut world = World::new(27);
    let near = ExchangeSet::new(world.client.clone(), &world.runtime, SetConfig::default());
    let near = near.unwrap();
    let mut exchange = near.open(Some(world.sim.now() + Duration::from_secs(1))).unwrap();
    let mut streams = world.streams.take().unwrap();
    let (mut exchange, mut stream) = world.sim.run(async move {
        exchange.send(Message::new(Kind::Request, "x")).await.unwrap();
        (exchange, streams.next().await.unwrap())
    });
    world.sim.advance(Duration::from_millis(1_001));
    let (_, error) = world.sim.run(async move { support::read_all(&mut stream).await });
    assert_eq!(error, Some(trunkline::StreamError::Reset(trunkline::ResetCode::EXPIRED)));
    // It expired once, whatever is set later.
    assert_eq!((near.outbound.len(), near.outbound.stats().expired), (0, 1));
    let other = near.open(None).unwrap();
    exchange.set_deadline(world.sim.now() + Duration::from_secs(1)).unwrap();
    world.sim.advance(Duration::from_secs(2));
    assert_eq!((near.outbound.len(), near.outbound.stats().expired), (1, 1));
    drop(exchange);
    assert_eq!(near.outbound.len(), 1);
    drop(other);
    assert_eq!(near.outbound.len(), 0);
}

#[test]
fn the_idle_time_starts_anew_with_each_exchange() {
    let mut world = World::new(30);
    let near = SetConfig::default().idle_timeout(Some(Duration::from_secs(60)));
    let (near, _far, inbound) = world.sets(near, SetConfig::default());
    for _ in 0..5 {
        world.sim.advance(Duration::from_secs(50));
        // Begun and over in one moment.
        drop(near.open(None).unwrap());
    }
    world.sim.advance(Duration::from_secs(59));
    assert!(!world.client.is_closed());
    world.sim.advance(Duration::from_secs(5));
    assert!(world.client.is_closed());
    drop(inbound);
}

#[test]
fn times_beyond_the_clock_mean_forever() {
    let mut world = World::new(23);
    let health = Health { interval: Duration::MAX, failures: 1 };
    let config = SetConfig::default().idle_timeout(Some(Duration::MAX)).health(Some(health));
    let (near, _far, inbound) = world.sets(config, SetConfig::default());
    drop(near.open(None).unwrap());
    world.sim.advance(Duration::from_secs(3_600));
    assert!(!world.client.is_closed());
    drop(inbound);
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
