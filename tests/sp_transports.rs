//! The same sockets over every transport.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future};
use sp_support::{
    Peer, REP, REQ, count, defaults, echo, echo_at, options, rep, req, run, run_in_real_time,
    run_on_threads, settle, split, words,
};
use trunkline::{
    Dispatcher, Protocol, Session,
    runtime::Runtime,
    sp::{DialError, Options, PipeError, PipeEvent, RepSocket, ReqSocket, wire::MessageError},
    transport::{
        Address, Binding, Connector, Settings, Transport, Transports, memory::Memory, mux::Mux,
        tcp::Tcp,
    },
};

/// A path for a socket that no other test uses.
fn ipc(name: &str) -> String {
    let dir = std::env::temp_dir();
    format!("ipc://{}/trunkline-{}-{name}.sock", dir.display(), std::process::id())
}

fn addresses(name: &str) -> [String; 6] {
    [
        format!("memory://{name}"),
        "tcp://127.0.0.1:0".into(),
        ipc(name),
        format!("mux+memory://{name}"),
        "mux+tcp://127.0.0.1:0".into(),
        format!("mux+{}", ipc(&format!("mux-{name}"))),
    ]
}

#[test]
fn requests_and_replies_over_every_transport() {
    run_in_real_time(async {
        let transports = Transports::default();
        for address in addresses("all") {
            let server = rep(&transports, defaults());
            let listener = server.listen(&address).await.unwrap();
            echo(&server);
            let address = listener.local_addr().unwrap();
            assert!(!address.rest().ends_with(":0"), "{address}");
            let client = req(&transports, defaults());
            client.dial(&address.to_string()).await.unwrap();
            for size in [0, 1, 64, 4_095, 70_000, (1 << 20) - 4] {
                let body: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
                assert_eq!(client.request(body.clone()).await.unwrap(), body, "{address}");
            }
            let contexts = (0..100_u32).map(|number| {
                let context = client.context().unwrap();
                async move {
                    for _ in 0..count(2_000) / 100 {
                        let body = Bytes::copy_from_slice(&number.to_be_bytes());
                        assert_eq!(context.request(body.clone()).await.unwrap(), body);
                    }
                }
            });
            future::join_all(contexts).await;
            let pipe = client.pipes().remove(0);
            assert_eq!(pipe.address(), &address);
            assert_eq!(pipe.remote_addr(), Some(&address));
            assert!(pipe.local_addr().is_some());
            client.close().await;
            server.close().await;
        }
    });
}

#[test]
fn rules_are_the_same_over_every_transport() {
    run_in_real_time(async {
        let transports = Transports::default();
        for address in addresses("rules") {
            // A reply counts by its id alone.
            let client = req(&transports, defaults());
            let listener = client.listen(&address).await.unwrap();
            let near = listener.local_addr().unwrap().to_string();
            let mut peer = Peer::dial(&transports, &near, REP).await;
            let serve = async {
                let (id, _) = split(&peer.recv().await);
                peer.send(b"abc").await;
                peer.send(&words(&[id ^ 1], b"other")).await;
                peer.send(&words(&[id], b"good")).await;
            };
            let (reply, ()) = future::join(client.request("x"), serve).await;
            assert_eq!((reply.unwrap(), client.stats().junk), ("good".into(), 2), "{address}");
            client.close().await;

            // A reply has the words of its request; junk and what comes from too far is dropped.
            let server = rep(&transports, options(|it| it.max_receive(Some(1_000))));
            let mut events = server.events();
            let listener = server.listen(&address).await.unwrap();
            let far = listener.local_addr().unwrap().to_string();
            let mut peer = Peer::dial(&transports, &far, REQ).await;
            peer.send(b"abc").await;
            peer.send(&words(&[1, 2, 3, 4, 5, 6, 7, 8, 0x8000_0001], b"")).await;
            peer.send(&words(&[7, 0x8000_0001], b"ping")).await;
            let (request, replier) = server.recv().await.unwrap();
            assert_eq!((request, server.stats().junk), ("ping".into(), 2), "{address}");
            replier.send("pong").await.unwrap();
            assert_eq!(peer.recv().await, words(&[7, 0x8000_0001], b"pong"));

            // The longest message, and one that is longer.
            peer.send(&words(&[0x8000_0001], &[0; 996])).await;
            assert_eq!(server.recv().await.unwrap().0.len(), 996);
            drop(peer.try_send(&words(&[0x8000_0001], &[0; 997])).await);
            let detached = loop {
                if let PipeEvent::Detached(_, error) = events.next().await.unwrap() {
                    break error;
                }
            };
            let too_long = MessageError::TooLong { length: 1_001, limit: 1_000 };
            assert_eq!(detached, PipeError::Message(too_long), "{address}");
            server.close().await;
        }
    });
}

#[test]
fn without_a_limit_any_length_is_received_over_every_transport() {
    run_in_real_time(async {
        let transports = Transports::default();
        for address in addresses("long") {
            let unlimited = options(|it| it.max_receive(None));
            let server = rep(&transports, unlimited.clone());
            let listener = server.listen(&address).await.unwrap();
            echo(&server);
            let client = req(&transports, unlimited);
            client.dial(&listener.local_addr().unwrap().to_string()).await.unwrap();
            let body: Bytes = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
            assert!(client.request(body.clone()).await.unwrap() == body, "{address}");
            server.close().await;
        }
    });
}

#[test]
fn the_server_may_dial_over_every_transport() {
    run_in_real_time(async {
        let transports = Transports::default();
        for address in addresses("reverse") {
            let client = req(&transports, defaults());
            let listener = client.listen(&address).await.unwrap();
            let server = rep(&transports, defaults());
            server.dial(&listener.local_addr().unwrap().to_string()).await.unwrap();
            echo(&server);
            assert_eq!(client.request("x").await.unwrap(), "x");
        }
    });
}

#[test]
fn a_killed_connection_comes_back_over_every_transport() {
    run_in_real_time(async {
        let transports = Transports::default();
        for address in addresses("killed") {
            let server = rep(&transports, defaults());
            let listener = server.listen(&address).await.unwrap();
            let quick = options(|it| it.reconnect_min(std::time::Duration::from_millis(1)));
            let client = req(&transports, quick);
            client.dial(&listener.local_addr().unwrap().to_string()).await.unwrap();
            let asking = tokio::spawn({
                let client = client.clone();
                async move { client.request("pending").await }
            });
            let (first, replier) = server.recv().await.unwrap();
            replier.pipe().close();
            let (second, replier) = server.recv().await.unwrap();
            assert_eq!(first, second, "{address}");
            replier.send("resent").await.unwrap();
            assert_eq!(asking.await.unwrap().unwrap(), "resent");
        }
    });
}

#[test]
fn unix_sockets_have_a_byte_before_each_message() {
    run_in_real_time(async {
        // spec.md §13.3
        let transports = Transports::default();
        let address = ipc("bytes");
        let server = echo_at(&transports, &address).await;
        let mut peer = Peer::connect(&transports, &address).await.unwrap();
        peer.shake_hands(REQ).await;
        peer.write(b"\x01\0\0\0\0\0\0\0\x06\x80\0\0\x01hi").await;
        assert_eq!(peer.read(15).await, b"\x01\0\0\0\0\0\0\0\x06\x80\0\0\x01hi");
        server.close().await;
        // The path is free again.
        rep(&transports, defaults()).listen(&address).await.unwrap();
    });
}

#[test]
fn names_in_memory_belong_to_their_table() {
    run_in_real_time(async {
        let (one, other) = (Transports::default(), Transports::default());
        let server = rep(&one, defaults());
        server.listen("memory://x").await.unwrap();
        let Err(DialError::Connect(error)) = req(&other, defaults()).dial("memory://x").await
        else {
            panic!("another table")
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        rep(&other, defaults()).listen("memory://x").await.unwrap();
        req(&one, defaults()).dial("memory://x").await.unwrap();
    });
}

/// A transport of one's own: it counts.
#[derive(Debug, Clone)]
struct Counting(Memory, Arc<AtomicUsize>);

impl Transport for Counting {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.connector(address, settings)
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.bind(address, settings)
    }
}

#[test]
fn a_transport_of_ones_own_carries_requests() {
    run_in_real_time(async {
        let used = Arc::new(AtomicUsize::new(0));
        let old = Arc::new(AtomicUsize::new(0));
        let transports = Transports::none()
            .with("own", Counting(Memory::default(), old.clone()))
            .with("own", Counting(Memory::default(), used.clone()));
        let _server = echo_at(&transports, "own://x").await;
        let client = req(&transports, defaults());
        client.dial("own://x").await.unwrap();
        assert_eq!(client.request("x").await.unwrap(), "x");
        assert_eq!((used.load(Ordering::SeqCst), old.load(Ordering::SeqCst)), (2, 0));
    });
}

#[test]
fn many_sockets_share_one_connection_with_other_protocols_beside() {
    run_in_real_time(async {
        // spec.md §10, §13.7
        let connections = Arc::new(AtomicUsize::new(0));
        let sessions = connections.clone();
        let mux = Mux::new("tcp", Tcp).on_accept(move |_, dispatcher| {
            sessions.fetch_add(1, Ordering::SeqCst);
            let mut raw = dispatcher.serve(Protocol::RAW, 8).unwrap();
            tokio::spawn(async move {
                while let Some(mut stream) = raw.next().await {
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
                    AsyncWriteExt::close(&mut stream).await.unwrap();
                }
            });
        });
        let transports = Transports::none().with("mux+tcp", mux.clone());
        let server = rep(&transports, defaults());
        let listener = server.listen("mux+tcp://127.0.0.1:0").await.unwrap();
        echo(&server);
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..20).map(|_| req(&transports, defaults())).collect();
        for client in &clients {
            client.dial(&address.to_string()).await.unwrap();
        }
        let settings = Settings::new(trunkline::tokio::runtime());
        let session = mux.session(address.rest(), &settings).await.unwrap();
        let mut stream = Dispatcher::open(&session, Protocol::RAW).await.unwrap();
        stream.write_all(b"beside").await.unwrap();
        AsyncWriteExt::close(&mut stream).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "BESIDE");
        for client in &clients {
            assert_eq!(client.request("x").await.unwrap(), "x");
        }
        assert_eq!((connections.load(Ordering::SeqCst), server.stats().pipes), (1, 20));

        // A dead session is dialled anew, once, and everyone is back.
        session.abort(trunkline::GoAwayCode::INTERNAL_ERROR);
        for client in &clients {
            assert_eq!(client.request("y").await.unwrap(), "y");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_session_that_takes_no_more_streams_gives_way_to_another() {
    // spec.md §13.7
    run(async {
        let sessions = Arc::new(Mutex::new(Vec::<Session>::new()));
        let kept = sessions.clone();
        let mux = Mux::new("memory", Memory::default())
            .on_accept(move |session, _| kept.lock().unwrap().push(session.clone()));
        let transports = Transports::none().with("mux", mux);
        let _server = echo_at(&transports, "mux://x").await;
        let first = req(&transports, defaults());
        first.dial("mux://x").await.unwrap();
        sessions.lock().unwrap()[0].go_away();
        settle().await;
        let second = req(&transports, defaults());
        second.dial("mux://x").await.unwrap_err();
        second.dial("mux://x").await.unwrap();
        assert_eq!(second.request("on the new one").await.unwrap(), "on the new one");
        assert_eq!(first.request("on the old one").await.unwrap(), "on the old one");
        assert_eq!(sessions.lock().unwrap().len(), 2);

        // One that is over is not even tried.
        let all = std::mem::take(&mut *sessions.lock().unwrap());
        all.iter().for_each(|session| session.abort(trunkline::GoAwayCode::INTERNAL_ERROR));
        settle().await;
        req(&transports, defaults()).dial("mux://x").await.unwrap();
    });
}

#[test]
fn a_session_full_of_streams_keeps_no_other_from_coming() {
    // spec.md §13.2.5
    run(async {
        let memory = Memory::default();
        let [mux, first, second] = [(); 3].map(|()| Mux::new("memory", memory.clone()));
        let settings = Settings::new(trunkline::tokio::runtime());
        let mut acceptor = mux.bind(&Address::new("mux", "x"), &settings).await.unwrap();
        let opening = async {
            let session = first.session("x", &settings).await.unwrap();
            let open = || Dispatcher::open(&session, Protocol::SP);
            let streams = future::join_all((0..100).map(|_| open())).await;
            (streams, session)
        };
        let (_opened, _accepted) = future::join(opening, acceptor.accept()).await;
        settle().await;
        let coming = tokio::spawn(async move { second.session("x", &settings).await.is_ok() });
        for _ in 0..5 {
            settle().await;
            acceptor.accept().await.unwrap();
        }
        settle().await;
        assert!(coming.is_finished() && coming.await.unwrap());
    });
}

#[test]
fn a_panic_where_sessions_are_served_ends_that_session_and_no_other() {
    run(async {
        let asked = AtomicUsize::new(0);
        let mux = Mux::new("memory", Memory::default()).on_accept(move |_, _| {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                // Not `panic!`: nothing is printed that way.
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        });
        let transports = Transports::none().with("mux", mux);
        let _server = echo_at(&transports, "mux://x").await;
        let client = req(&transports, defaults());
        client.dial("mux://x").await.unwrap_err();
        settle().await;
        client.dial("mux://x").await.unwrap();
        assert_eq!(client.request("at last").await.unwrap(), "at last");
    });
}

#[test]
fn a_stray_path_is_taken_over_and_a_busy_one_is_not() {
    run_in_real_time(async {
        let transports = Transports::default();
        let address = ipc("stray");
        let path = address.strip_prefix("ipc://").unwrap();
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let server = rep(&transports, defaults());
        server.listen(&address).await.unwrap();
        rep(&transports, defaults()).listen(&address).await.unwrap_err();
    });
}

#[test]
fn other_runtimes_do_as_well() {
    let runtime = Runtime::new(|task| smol::spawn(task).detach());
    smol::block_on(async {
        let transports = Transports::default();
        let server = RepSocket::new(runtime.clone(), transports.clone(), Options::default());
        server.listen("mux+memory://smol").await.unwrap();
        let client = ReqSocket::new(runtime, transports, Options::default());
        client.dial("mux+memory://smol").await.unwrap();
        let (reply, ()) = future::join(client.request("x"), async {
            let (request, replier) = server.recv().await.unwrap();
            replier.send(request).await.unwrap();
        })
        .await;
        assert_eq!(reply.unwrap(), "x");
    });
}

#[test]
fn many_threads_share_two_sockets() {
    run_on_threads(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        let listener = server.listen("tcp://127.0.0.1:0").await.unwrap();
        (0..4).for_each(|_| echo(&server));
        let client = req(&transports, defaults());
        for _ in 0..3 {
            client.dial(&listener.local_addr().unwrap().to_string()).await.unwrap();
        }
        let tasks = (0..64_u32).map(|task| {
            let context = client.context().unwrap();
            tokio::spawn(async move {
                for round in 0..count(4_000) as u32 {
                    let body = Bytes::from(words(&[task, round], b"body"));
                    assert_eq!(context.request(body.clone()).await.unwrap(), body);
                    assert_eq!(split(&body).0, task);
                }
            })
        });
        for done in future::join_all(tasks).await {
            done.unwrap();
        }
    });
}
