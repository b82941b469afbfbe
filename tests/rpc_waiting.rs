//! Calls that wait for a stream.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, echo, say, sleep};
use futures::future::select;
use support::pause;
use trunkline::{
    Session,
    rpc::{Client, Code, Server},
};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A client that can have one stream at a time.
fn crowded(seed: u64, timer: bool) -> (World, Client, Session) {
    let mut world = World::new(seed);
    let mut config = world.sim.config().max_outbound_streams(1);
    if !timer {
        config = config.no_timer();
    }
    let config = config.build().unwrap();
    let far = world.sim.config().build().unwrap();
    let (near, far) = world.sim.pair_with(1 << 16, config, far);
    world.runtime.spawn(Server::new(echo(&world.runtime), &world.runtime).serve(far));
    let client = Client::new(near.clone(), &world.runtime).timeout(Some(Duration::from_secs(1000)));
    (world, client, near)
}

/// One comes, waits and goes: from then on it is known that there is a crowd.
fn come_in_vain(world: &mut World, client: &Client) {
    let client = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move {
        let _ = say(&client, "x").await;
    });
    world.sim.settle();
    world.sim.drop_task(task);
}

/// What is wrong with a call by itself is told at once, crowd or not.
#[test]
fn a_call_that_is_too_large_is_refused_at_once() {
    for crowd in [false, true] {
        let (mut world, client, _near) = crowded(1, true);
        let hold = client.clone();
        world.sim.spawn(async move {
            let _ = hold.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
        });
        world.sim.settle();
        if crowd {
            let wait = client.clone();
            world.sim.spawn(async move {
                let _ = say(&wait, "x").await;
            });
            world.sim.settle();
        }
        let big = world.sim.spawn(async move {
            client
                .call::<_, Bytes>("Echo.Say", &Bytes::from(vec![0; 64 << 20]))
                .await
                .unwrap_err()
                .code()
        });
        world.sim.settle();
        assert_eq!(big.take(), Some(Code::BadRequest), "crowd: {crowd}");
    }
}

/// One who fails at its turn passes it on.
#[test]
fn a_turn_that_is_not_used_is_passed_on() {
    for timer in [true, false] {
        for warm in [false, true] {
            let (mut world, client, near) = crowded(2, timer);
            let hold = client.clone();
            let (task, _) = world.sim.spawn_flagged(async move {
                let _ = hold.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
            });
            world.sim.settle();
            if warm {
                come_in_vain(&mut world, &client);
            }
            let mut outs = Vec::new();
            let c = client.clone();
            let early = world.sim.spawn(async move { say(&c, "first").await.unwrap() });
            world.sim.settle();
            for _ in 0..3 {
                let c = client.clone();
                outs.push(world.sim.spawn(async move {
                    c.call::<_, Bytes>("Echo.Say", &Bytes::from(vec![0; 64 << 20]))
                        .await
                        .unwrap_err()
                        .code()
                }));
            }
            let c = client.clone();
            let last = world.sim.spawn(async move { say(&c, "last").await.unwrap() });
            world.sim.settle();
            assert!(!last.is_ready());
            world.sim.drop_task(task);
            world.sim.advance(Duration::from_millis(500));
            assert_eq!(early.take().unwrap(), "first");
            assert_eq!(last.take().unwrap(), "last");
            for out in outs {
                assert_eq!(out.take().unwrap(), Code::BadRequest);
            }
            assert_eq!(near.stats().outbound_streams, 0);
        }
    }
}

/// Dropped after any number of polls while it waits, it is in nobody's way.
#[test]
fn a_call_that_waits_may_be_dropped_after_any_poll() {
    for timer in [true, false] {
        for streaming in [false, true] {
            for warm in [false, true] {
                for k in 0..60 {
                    let (mut world, client, near) = crowded(k, timer);
                    let hold = client.clone();
                    world.sim.spawn(async move {
                        hold.request("Echo.Slow")
                            .timeout(Some(Duration::from_secs(1000)))
                            .call::<_, Bytes>(&Bytes::new())
                            .await
                            .unwrap();
                    });
                    world.sim.settle();
                    if warm {
                        come_in_vain(&mut world, &client);
                    }
                    let clock = world.runtime.clone();
                    let c = client.clone();
                    let dropped = world.sim.spawn(async move {
                        let made = Box::pin(async move {
                            if streaming {
                                calls::chat(&c, 2).await;
                            } else {
                                let _ = say(&c, "x").await;
                            }
                        });
                        let limit = Box::pin(async move {
                            sleep(&clock, Duration::from_millis(199_990)).await;
                            pause(k as usize).await;
                        });
                        drop(select(made, limit).await);
                    });
                    world.sim.settle();
                    let c = client.clone();
                    let last = world.sim.spawn(async move { say(&c, "last").await.unwrap() });
                    world.sim.advance(Duration::from_secs(202));
                    assert!(dropped.is_ready());
                    assert_eq!(last.take().expect("lost"), "last");
                    world.sim.advance(Duration::from_millis(200));
                    assert_eq!(near.stats().outbound_streams, 0);
                    let said = world.sim.run_for(Duration::from_secs(9), async move {
                        say(&client, "z").await.unwrap()
                    });
                    assert_eq!(said, "z");
                }
            }
        }
    }
}

/// Woken for a turn that another took meanwhile, one still hears of its deadline.
#[test]
fn who_was_woken_in_vain_hears_of_its_deadline() {
    let (mut world, client, _near) = crowded(3, true);
    let hold = client.clone();
    let (task, _) = world.sim.spawn_flagged(async move {
        let _ = hold.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
    });
    world.sim.settle();
    let make = |method: &'static str, secs: u64| {
        let c = client.clone();
        Box::pin(async move {
            c.request(method)
                .timeout(Some(Duration::from_secs(secs)))
                .call::<_, Bytes>(&Bytes::new())
                .await
        })
    };
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    let noop = futures::task::noop_waker();
    let mut none = Context::from_waker(&noop);
    let mut first = make("Echo.Say", 5);
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let mut second = make("Echo.Never", 900);
    assert!(second.as_mut().poll(&mut none).is_pending());
    let mut others: Vec<_> = (0..400).map(|_| make("Echo.Say", 800)).collect();
    for other in &mut others {
        assert!(other.as_mut().poll(&mut none).is_pending());
    }
    world.sim.drop_task(task);
    world.sim.settle();
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "its turn");
    // A spurious poll takes the place.
    assert!(second.as_mut().poll(&mut none).is_pending());
    drop(others);
    assert!(first.as_mut().poll(&mut cx).is_pending(), "in vain");
    let before = count.0.load(Ordering::SeqCst);
    world.sim.advance(Duration::from_secs(10));
    assert!(count.0.load(Ordering::SeqCst) > before, "nobody told it that its time is up");
    match first.as_mut().poll(&mut cx) {
        Poll::Ready(Err(status)) => assert_eq!(status.code(), Code::Timeout),
        other => panic!("{other:?}"),
    }
}

/// Also where it is known that there is a crowd.
#[test]
fn a_call_behind_others_waits_no_longer_than_its_deadline() {
    let (mut world, client, _near) = crowded(4, true);
    for _ in 0..2 {
        let wait = client.clone();
        world.sim.spawn(async move {
            let _ = wait.call::<_, Bytes>("Echo.Never", &Bytes::new()).await;
        });
        world.sim.settle();
    }
    let start = world.sim.now();
    let code = world.sim.run_for(Duration::from_secs(9), async move {
        let call = client.request("Echo.Say").timeout(Some(Duration::from_secs(2)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err().code()
    });
    assert_eq!((code, (world.sim.now() - start).as_secs()), (Code::Timeout, 2));
}

/// Calls are answered in the order in which they came, crowd or not.
#[test]
fn calls_that_wait_go_in_the_order_in_which_they_came() {
    for timer in [true, false] {
        let (mut world, client, _near) = crowded(5, timer);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut outs = Vec::new();
        for n in 0..6 {
            let (c, order) = (client.clone(), order.clone());
            outs.push(world.sim.spawn(async move {
                c.request("Echo.Slow").timeout(None).call::<_, Bytes>(&Bytes::new()).await.unwrap();
                order.lock().unwrap().push(n);
            }));
            world.sim.settle();
        }
        world.sim.advance(Duration::from_secs(1300));
        assert!(outs.iter().all(|out| out.is_ready()));
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    }
}
