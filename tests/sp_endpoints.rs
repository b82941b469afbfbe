//! Dialers and listeners.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::FutureExt;
use sp_support::{
    Peer, PeerListener, REP, REQ, defaults, drain, echo, ms, options, rep, req, run, settle, sleep,
    split, words,
};
use tokio::time::Instant;
use trunkline::{
    sp::{DialError, EndpointError, ListenError, PipeEvent},
    transport::{
        Accepting, Acceptor, Address, Binding, Connecting, Connector, Settings, Transport,
        Transports, memory::Memory,
    },
};

const ADDRESS: &str = "memory://endpoints";

#[test]
fn silent_peers_stall_nobody_and_time_out() {
    run(async {
        // spec.md §13.2
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.max_handshakes(10)));
        server.listen(ADDRESS).await.unwrap();
        echo(&server);
        let mut silent = Vec::new();
        for _ in 0..12 {
            silent.push(Peer::connect(&transports, ADDRESS).await.unwrap());
            settle().await;
        }
        // The two oldest had to go.
        for (number, peer) in silent.iter_mut().enumerate() {
            peer.read(8).await;
            assert_eq!(peer.is_closed().await, number < 2, "{number}");
        }
        let client = req(&transports, defaults());
        client.dial(ADDRESS).await.unwrap();
        assert_eq!(client.request("x").await.unwrap(), "x");
        sleep(ms(9_000)).await;
        assert!(!silent[11].is_closed().await);
        sleep(ms(1_000)).await;
        for peer in &mut silent {
            assert!(peer.is_closed().await);
        }
        assert_eq!(client.request("y").await.unwrap(), "y");
    });
}

#[test]
fn closing_a_listener_ends_handshakes_and_keeps_pipes() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, defaults());
        let listener = server.listen(ADDRESS).await.unwrap();
        echo(&server);
        let mut attached = Peer::dial(&transports, ADDRESS, REQ).await;
        let mut silent = Vec::new();
        for _ in 0..10 {
            let mut peer = Peer::connect(&transports, ADDRESS).await.unwrap();
            peer.read(8).await;
            silent.push(peer);
        }
        listener.close();
        settle().await;
        for peer in &mut silent {
            assert!(peer.is_closed().now_or_never().unwrap_or(false) || peer.is_closed().await);
        }
        attached.send(&words(&[0x8000_0001], b"alive")).await;
        assert_eq!(split(&attached.recv().await).1, b"alive");
        let refused = Peer::connect(&transports, ADDRESS).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(matches!(listener.listen().await, Err(ListenError::Closed)));
    });
}

#[test]
fn listeners_are_in_use_closed_or_tried_again() {
    run(async {
        let transports = Transports::default();
        let (server, other) = (rep(&transports, defaults()), rep(&transports, defaults()));
        let listener = server.listen(ADDRESS).await.unwrap();
        assert!(matches!(listener.listen().await, Err(ListenError::InUse)));
        let second = other.listener(ADDRESS, defaults()).unwrap();
        let Err(ListenError::Bind(error)) = second.listen().await else {
            panic!("the name is taken")
        };
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        listener.close();
        settle().await;
        second.listen().await.unwrap();
        assert!(matches!(listener.listen().await, Err(ListenError::Closed)));
    });
}

#[test]
fn dialers_are_in_use_closed_or_tried_again() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let dialer = client.dialer(ADDRESS, defaults()).unwrap();
        let Err(DialError::Connect(error)) = dialer.dial().await else { panic!("nobody listens") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        dialer.dial().await.unwrap();
        assert!(matches!(dialer.dial().await, Err(DialError::InUse)));
        assert!(matches!(dialer.dial_background(), Err(DialError::InUse)));
        dialer.close();
        assert!(matches!(dialer.dial().await, Err(DialError::Closed)));
        assert!(matches!(dialer.dial_background(), Err(DialError::Closed)));
        settle().await;
        assert!(client.pipes().is_empty());
        sleep(ms(100_000)).await;
        assert!(client.pipes().is_empty(), "a closed dialer stays closed");
    });
}

#[test]
fn dialling_in_the_background_waits_longer_each_time() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.reconnect_max(ms(1_000))));
        let mut events = client.events();
        let dialer = client.dialer(ADDRESS, client.options()).unwrap();
        dialer.dial_background().unwrap();
        let mut waits = Vec::new();
        for _ in 0..12 {
            let before = Instant::now();
            loop {
                if let Some(event) = events.try_next() {
                    assert!(matches!(event, PipeEvent::DialFailed { .. }), "{event:?}");
                    break;
                }
                sleep(ms(1)).await;
            }
            waits.push(before.elapsed());
        }
        assert!(waits[0] <= ms(2) && waits[1] >= ms(99) && waits[1] <= ms(103), "{waits:?}");
        assert!(waits[2] >= ms(109) && waits[2] < ms(155), "{waits:?}");
        assert!(waits[11] >= ms(997) && waits[11] <= ms(1_003), "{waits:?}");
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        sleep(ms(1_100)).await;
        assert_eq!(client.pipes().len(), 1);

        // No maximum, no growth.
        let constant = options(|it| it.reconnect_min(ms(50)).reconnect_max(ms(0)));
        let dialer = client.dialer("memory://nobody", constant).unwrap();
        drain(&mut events).await;
        dialer.dial_background().unwrap();
        sleep(ms(1_001)).await;
        let failed = drain(&mut events).await.len();
        assert!((20..=21).contains(&failed), "{failed}");
    });
}

#[test]
fn a_peer_that_rejects_is_not_dialled_in_a_spin() {
    run(async {
        let transports = Transports::default();
        let server = rep(&transports, options(|it| it.admit(|_| false)));
        server.listen(ADDRESS).await.unwrap();
        let client = req(&transports, options(|it| it.reconnect_max(ms(0))));
        client.dialer(ADDRESS, client.options()).unwrap().dial_background().unwrap();
        sleep(ms(10_000)).await;
        let attached = client.stats().attached;
        assert!((50..=101).contains(&attached), "{attached}");
    });
}

#[test]
fn a_pipe_that_was_of_use_makes_the_waits_short_again() {
    // spec.md §13.8.1
    for (heard, lived, short) in
        [(true, ms(0), true), (false, ms(100_001), true), (false, ms(90_000), false)]
    {
        run(async {
            let transports = Transports::default();
            let client = req(&transports, options(|it| it.reconnect_max(ms(100_000))));
            client.dialer(ADDRESS, client.options()).unwrap().dial_background().unwrap();
            // By now the waits are long.
            sleep(ms(200_000)).await;
            let mut listener = PeerListener::bind(&transports, ADDRESS).await;
            let mut peer = listener.serve().await;
            if heard {
                peer.send(&words(&[0x8000_0001], b"whatever")).await;
            }
            settle().await;
            sleep(lived).await;
            let before = Instant::now();
            drop((peer, listener));
            settle().await;
            let mut listener = PeerListener::bind(&transports, ADDRESS).await;
            let _peer = listener.serve().await;
            let waited = before.elapsed();
            assert_eq!(
                (ms(100)..ms(110)).contains(&waited),
                short,
                "{heard} {lived:?}: {waited:?}"
            );
            assert!(short || waited > ms(10_000), "{waited:?}");
        });
    }
}

#[test]
fn closing_a_dialer_stops_a_dial_under_way() {
    run(async {
        let transports = Transports::default();
        let mut listener = PeerListener::bind(&transports, ADDRESS).await;
        let client = req(&transports, defaults());
        let dialer = client.dialer(ADDRESS, defaults()).unwrap();
        let dialling = tokio::spawn({
            let dialer = dialer.clone();
            async move { dialer.dial().await }
        });
        let mut peer = listener.accept().await;
        dialer.close();
        assert!(matches!(dialling.await.unwrap(), Err(DialError::Closed)));
        let mut sent = Vec::new();
        futures::AsyncReadExt::read_to_end(&mut peer.io, &mut sent).await.unwrap();
        assert!(sent.len() <= 8, "closed, in the handshake or before");
        settle().await;
        assert_eq!(client.stats().attached, 0);
    });
}

#[test]
fn a_listener_that_never_accepts_is_a_timeout() {
    run(async {
        let transports = Transports::default();
        let _listener = PeerListener::bind(&transports, ADDRESS).await;
        let client = req(&transports, options(|it| it.connect_timeout(ms(300))));
        let dialer = client.dialer(ADDRESS, client.options()).unwrap();
        let before = Instant::now();
        assert!(matches!(dialer.dial().await, Err(DialError::TimedOut)));
        assert_eq!(before.elapsed(), ms(300));
        assert_eq!(defaults().connect_timeout(), ms(10_000));
        // In the background it is tried again.
        let mut events = client.events();
        dialer.dial_background().unwrap();
        sleep(ms(1_300)).await;
        let events = drain(&mut events).await;
        assert!(events.len() >= 3, "{events:?}");
        for event in events {
            assert!(matches!(event, PipeEvent::DialFailed { error: DialError::TimedOut, .. }));
        }
    });
}

/// Fails to accept as often as it is told, then accepts.
#[derive(Debug, Clone)]
struct Failing {
    memory: Memory,
    failures: Arc<AtomicUsize>,
}

impl Transport for Failing {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        self.memory.connector(address, settings)
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        let (failures, binding) = (self.failures.clone(), self.memory.bind(address, settings));
        async move {
            let inner = binding.await?;
            Ok(Box::new(FailingAcceptor { inner, failures }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

struct FailingAcceptor {
    inner: Box<dyn Acceptor>,
    failures: Arc<AtomicUsize>,
}

impl Acceptor for FailingAcceptor {
    fn accept(&mut self) -> Accepting<'_> {
        if self.failures.fetch_sub(1, Ordering::SeqCst) > 1 {
            return futures::future::ready(Err(io::Error::other("out of descriptors"))).boxed();
        }
        self.failures.store(1, Ordering::SeqCst);
        self.inner.accept()
    }

    fn local_addr(&self) -> Option<Address> {
        self.inner.local_addr()
    }
}

#[test]
fn errors_of_accept_do_not_spin() {
    run(async {
        let failures = Arc::new(AtomicUsize::new(1_000));
        let failing = Failing { memory: Memory::default(), failures: failures.clone() };
        let transports = Transports::default().with("failing", failing);
        let server = rep(&transports, defaults());
        server.listen("failing://x").await.unwrap();
        sleep(ms(1_000)).await;
        let tried = 1_000 - failures.load(Ordering::SeqCst);
        assert!((10..40).contains(&tried), "{tried} in a second, from 1 ms to 100 ms apart");
        failures.store(2, Ordering::SeqCst);
        sleep(ms(300)).await;
        let client = req(&transports, defaults());
        client.dial("failing://x").await.unwrap();
    });
}

#[test]
fn endpoints_take_over_the_socket_s_options() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, options(|it| it.connect_timeout(ms(123))));
        let _server = PeerListener::bind(&transports, ADDRESS).await;
        let before = Instant::now();
        assert!(matches!(client.dial(ADDRESS).await, Err(DialError::TimedOut)));
        assert_eq!(before.elapsed(), ms(123));
        let own = client.options().to_builder().connect_timeout(ms(45)).build().unwrap();
        let dialer = client.dialer(ADDRESS, own).unwrap();
        assert!(matches!(dialer.dial().await, Err(DialError::TimedOut)));
        assert_eq!(before.elapsed(), ms(168));
    });
}

#[test]
fn addresses_that_cannot_be_used_fail_at_once() {
    run(async {
        let transports = Transports::default();
        let client = req(&transports, defaults());
        let refused = |address| client.dialer(address, defaults()).unwrap_err();
        assert!(matches!(refused("foo"), EndpointError::Address(_)));
        assert!(matches!(refused("://x"), EndpointError::Address(_)));
        assert!(matches!(refused("carrier-pigeon://x"), EndpointError::Scheme(_)));
        assert!(matches!(refused("tcp://no-port"), EndpointError::Invalid(_)));
        assert!(matches!(refused("tcp://host:port"), EndpointError::Invalid(_)));
        assert!(matches!(client.listen("foo").await, Err(ListenError::Endpoint(_))));
        for address in ["tcp://no-port", "tcp://host:port"] {
            let refused = client.listen(address).await;
            assert!(
                matches!(refused, Err(ListenError::Endpoint(EndpointError::Invalid(_)))),
                "{refused:?}"
            );
        }
        assert_eq!(
            Address::parse("foo").unwrap_err().to_string(),
            "\"foo\" is not of the form scheme://rest"
        );
    });
}

/// Resolves a name anew at each dial.
#[derive(Debug, Clone)]
struct Names {
    memory: Memory,
    host: Arc<AtomicUsize>,
}

struct Named(Names, Settings);

impl Transport for Names {
    fn connector(&self, _: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        Ok(Box::new(Named(self.clone(), settings.clone())))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.memory.bind(address, settings)
    }
}

impl Connector for Named {
    fn connect(&self) -> Connecting {
        let address = Address::new("names", self.0.host.load(Ordering::SeqCst));
        match self.0.memory.connector(&address, &self.1) {
            Ok(connector) => connector.connect(),
            Err(error) => futures::future::ready(Err(error)).boxed(),
        }
    }
}

#[test]
fn a_host_that_moved_is_found_again() {
    run(async {
        let names = Names { memory: Memory::default(), host: Arc::default() };
        let transports = Transports::none().with("names", names.clone());
        let mut first = PeerListener::bind(&transports, "names://0").await;
        let client = req(&transports, defaults());
        client.dialer("names://host", defaults()).unwrap().dial_background().unwrap();
        let peer = first.serve().await;
        let mut second = PeerListener::bind(&transports, "names://1").await;
        names.host.store(1, Ordering::SeqCst);
        drop((peer, first));
        let mut peer = second.accept().await;
        peer.shake_hands(REP).await;
        settle().await;
        assert_eq!(client.pipes().len(), 1);
    });
}
