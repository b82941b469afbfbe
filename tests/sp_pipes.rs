//! Pipes: their events, who may be one, and how they and their socket end.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures::StreamExt;
use sp_support::{
    Peer, PeerListener, REQ, defaults, drain, echo, ms, options, rep, req, run, settle, sleep,
    split,
};
use tokio::time::Instant;
use trunkline::{
    sp::{DialError, EndpointError, Options, Origin, PipeError, PipeEvent, RecvError, SendError},
    transport::{Transports, memory::Memory},
};

const ADDRESS: &str = "memory://pipes";

#[test]
fn events_tell_the_life_of_a_pipe() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        let listener = server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        let peer = Peer::dial(&transports, ADDRESS, REQ).await;
        drop(peer);
        let events = drain(&mut events).await;
        let [
            PipeEvent::Attaching(first),
            PipeEvent::Attached(second),
            PipeEvent::Detached(third, PipeError::PeerClosed),
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((first.id(), second.id()), (second.id(), third.id()));
        assert_eq!(first.origin(), Origin::Listener(listener.id()));
        assert!(first.id() != 0 && first.id() < 1 << 31);
    });
}

#[test]
fn a_slow_subscriber_loses_the_oldest_events() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.event_queue(4)));
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        for _ in 0..3 {
            drop(Peer::dial(&transports, ADDRESS, REQ).await);
            settle().await;
        }
        assert_eq!(drain(&mut events).await.len(), 4);
        assert_eq!(events.lost(), 5);
        server.close().await;
        assert!(events.next().await.is_none());
    });
}

#[test]
fn a_subscriber_is_woken_by_events_and_not_by_other_subscribers() {
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut events = server.events();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(events.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        let _others = [server.events(), server.events()];
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        let _peer = Peer::dial(&transports, ADDRESS, REQ).await;
        settle().await;
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_thousand_rejected_pipes_leave_nothing_behind() {
    run(async {
        let transports = Transports::default();
        let admit = Arc::new(AtomicBool::new(false));
        let asked = admit.clone();
        let server =
            rep(&transports, options(|it| it.admit(move |_| asked.load(Ordering::SeqCst))));
        server.listen(ADDRESS).await.unwrap();
        echo(&server);
        let mut events = server.events();
        for _ in 0..1_000 {
            let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
            assert!(peer.is_closed().await);
            let events = drain(&mut events).await;
            assert!(
                matches!(
                    &events[..],
                    [PipeEvent::Attaching(_), PipeEvent::Detached(_, PipeError::Rejected)]
                ),
                "{events:?}"
            );
        }
        assert_eq!((server.stats().rejected, server.stats().pipes), (1_000, 0));
        admit.store(true, Ordering::SeqCst);
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        assert_eq!(client.request("x").await.unwrap(), "x");
        // A dialer can be refused from its own side.
        let picky = req(&transports, options(|it| it.admit(|_| false)));
        let Err(DialError::Pipe(PipeError::Rejected)) = picky.dial(ADDRESS).await else {
            panic!("not admitted")
        };
    });
}

#[test]
fn pipes_are_limited() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.max_pipes(2)));
        server.listen(ADDRESS).await.unwrap();
        let one = Peer::dial(&transports, ADDRESS, REQ).await;
        let _two = Peer::dial(&transports, ADDRESS, REQ).await;
        let mut three = Peer::dial(&transports, ADDRESS, REQ).await;
        assert!(three.is_closed().await);
        drop(one);
        settle().await;
        let mut four = Peer::dial(&transports, ADDRESS, REQ).await;
        assert!(!four.is_closed().await);
    });
}

#[test]
fn either_side_may_dial_and_a_socket_uses_all_its_pipes() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let servers = [0, 1, 2, 3].map(|_| rep(&transports, defaults()));
        let mut dialers = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            let address = format!("memory://{number}");
            if number < 2 {
                client.listen(&address).await.unwrap();
                server.dial(&address).await.unwrap();
            } else {
                server.listen(&address).await.unwrap();
                dialers.push(client.dial(&address).await.unwrap());
            }
        }
        settle().await;
        assert_eq!(client.pipes().len(), 4);
        let contexts: Vec<_> = (0..4).map(|_| client.context().unwrap()).collect();
        for context in &contexts {
            context.send("x").await.unwrap();
        }
        settle().await;
        for server in &servers {
            drop(server.try_recv().unwrap());
        }
        dialers[0].close();
        settle().await;
        assert_eq!(client.pipes().len(), 3);
        servers.iter().for_each(echo);
        for _ in 0..8 {
            assert_eq!(client.request("y").await.unwrap(), "y");
        }
    });
}

#[test]
fn a_closed_pipe_comes_back_if_it_was_dialled() {
    run(async {
        let transports = Transports::default();
        let (client, server) = (req(&transports, defaults()), rep(&transports, defaults()));
        let listener = server.listen(ADDRESS).await.unwrap();
        let dialer = client.dial(ADDRESS).await.unwrap();
        settle().await;
        let (dialled, accepted) = (client.pipes().remove(0), server.pipes().remove(0));
        assert_eq!(dialled.origin(), Origin::Dialer(dialer.id()));
        assert_eq!(accepted.origin(), Origin::Listener(listener.id()));
        assert_eq!(dialled.address().to_string(), ADDRESS);
        assert_eq!(dialled.remote_addr().unwrap().to_string(), ADDRESS);
        assert_eq!(dialled.options().max_receive(), Some(1 << 20));
        dialled.close();
        settle().await;
        assert!(client.pipes().is_empty() && server.pipes().is_empty());
        sleep(ms(101)).await;
        assert_ne!(client.pipes()[0].id(), dialled.id());
        // The old handle does nothing to the new pipe.
        dialled.close();
        settle().await;
        assert_eq!(client.pipes().len(), 1);

        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        settle().await;
        let pipes = server.pipes();
        pipes.iter().for_each(trunkline::sp::Pipe::close);
        assert!(peer.is_closed().await);
        dialer.close();
        sleep(ms(1_000)).await;
        assert!(server.pipes().is_empty(), "accepted pipes do not come back");
    });
}

#[test]
fn closing_ends_every_call_and_may_be_repeated() {
    run(async {
        let transports = Transports::default();
        let (client, server) = (req(&transports, defaults()), rep(&transports, defaults()));
        server.listen(ADDRESS).await.unwrap();
        client.dial(ADDRESS).await.unwrap();
        let receiving = tokio::spawn({
            let server = server.clone();
            async move { server.recv().await.map(drop) }
        });
        let sending = tokio::spawn({
            let socket = req(&transports, defaults());
            async move {
                futures::join!(socket.send("x"), async {
                    sleep(ms(1)).await;
                    socket.close().await
                })
                .0
            }
        });
        settle().await;
        server.close().await;
        server.close().await;
        client.close().await;
        assert_eq!(receiving.await.unwrap(), Err(RecvError::Closed));
        assert_eq!(sending.await.unwrap(), Err(SendError::Closed));
        assert_eq!(client.send("x").await, Err(SendError::Closed));
        assert!(matches!(
            client.dial(ADDRESS).await,
            Err(DialError::Endpoint(EndpointError::Closed))
        ));
        assert!(client.pipes().is_empty());
    });
}

#[test]
fn closing_lets_what_was_sent_leave_but_not_for_ever() {
    run(async {
        let transports = Transports::default().with("tight", Memory::new(10));
        let mut listener = PeerListener::bind(&transports, "tight://x").await;
        let linger = |linger| options(|it: trunkline::sp::OptionsBuilder| it.linger(linger));
        for (time, arrives) in [(ms(1_000), true), (ms(0), false)] {
            let client = req(&transports, linger(time));
            client.dialer("tight://x", defaults()).unwrap().dial_background().unwrap();
            let mut peer = listener.serve().await;
            settle().await;
            client.send(vec![3; 500]).await.unwrap();
            let closing = tokio::spawn(async move { client.close().await });
            settle().await;
            if arrives {
                assert_eq!(split(&peer.recv().await).1, [3; 500]);
                closing.await.unwrap();
            } else {
                closing.await.unwrap();
                let mut all = Vec::new();
                let read = futures::AsyncReadExt::read_to_end(&mut peer.io, &mut all).await;
                assert!(all.len() < 100, "{read:?}");
            }
        }
        // Nobody reads: the linger time is the end.
        let client = req(&transports, linger(ms(700)));
        client.dialer("tight://x", defaults()).unwrap().dial_background().unwrap();
        let _peer = listener.serve().await;
        settle().await;
        client.send(vec![3; 500]).await.unwrap();
        let before = Instant::now();
        client.close().await;
        assert_eq!(before.elapsed(), ms(700));
    });
}

#[test]
fn options_out_of_range_have_a_name() {
    let broken = [
        (Options::builder().max_hops(0).build(), "max_hops"),
        (Options::builder().max_receive(Some(0)).build(), "max_receive"),
        (Options::builder().send_buffer(0).build(), "send_buffer"),
        (Options::builder().send_queue(0).build(), "send_queue"),
        (Options::builder().recv_queue(0).build(), "recv_queue"),
        (Options::builder().reconnect_min(ms(0)).build(), "reconnect_min"),
        (Options::builder().connect_timeout(ms(0)).build(), "connect_timeout"),
        (Options::builder().handshake_timeout(ms(0)).build(), "handshake_timeout"),
        (Options::builder().max_handshakes(0).build(), "max_handshakes"),
        (Options::builder().max_pipes(0).build(), "max_pipes"),
        (Options::builder().max_contexts(0).build(), "max_contexts"),
        (Options::builder().event_queue(0).build(), "event_queue"),
    ];
    for (built, field) in broken {
        assert_eq!(built.unwrap_err().field(), field);
    }
    let options = Options::default();
    assert_eq!((options.max_hops(), options.retry()), (8, Some(ms(60_000))));
    assert_eq!((options.send_queue(), options.recv_queue()), (128, 128));
    assert_eq!((options.linger(), options.max_receive()), (ms(1_000), Some(1 << 20)));
    assert_eq!((options.reconnect_min(), options.reconnect_max()), (ms(100), ms(5_000)));
    assert!(options.no_delay() && options.keep_alive() && !options.best_effort());
}

/// The code of a user may panic: that connection pays for it, and those that come later do not.
#[test]
fn a_panic_where_pipes_are_admitted_ends_no_listener_and_no_dialer() {
    run(async {
        let first = |times: usize| {
            let asked = AtomicUsize::new(0);
            options(move |it| {
                it.admit(move |_| {
                    if asked.fetch_add(1, Ordering::SeqCst) < times {
                        // Not `panic!`: nothing is printed that way.
                        std::panic::resume_unwind(Box::new("on purpose"));
                    }
                    true
                })
            })
        };
        let transports = Transports::default();
        let server = rep(&transports, first(1));
        server.listen("memory://admits").await.unwrap();
        echo(&server);
        let client = req(&transports, first(2));
        let dialer = client.dialer("memory://admits", client.options()).unwrap();
        dialer.dial_background().unwrap();
        assert_eq!(client.request("at last").await.unwrap(), "at last");
        assert_eq!((client.stats().rejected, server.stats().rejected), (2, 1));
    });
}
