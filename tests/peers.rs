//! A store of peers, on tokio's clock, which stands still but for sleeps.
#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::join_all};
use trunkline::{
    Session,
    peers::{
        Claim, ConnectError, Overflow, PeerConfig, PeerConfigBuilder, PeerEvent, PeerId, PeerStore,
        PeerStoreBuilder, Policy, Queue, RefusalCode, SendError,
    },
    transport::{
        Acceptor, Address, Binding, Connecting, Connection, Connector, Settings, Transport,
        Transports, memory,
    },
};

fn id(name: &str) -> PeerId {
    PeerId::new(name.to_owned()).unwrap()
}

fn builder(name: &str, network: &Transports) -> PeerStoreBuilder {
    PeerStore::builder(id(name), trunkline::tokio::runtime(), network.clone())
}

fn store(name: &str, network: &Transports) -> PeerStore {
    builder(name, network).build()
}

fn configured(
    name: &str,
    network: &Transports,
    change: impl FnOnce(PeerConfigBuilder) -> PeerConfigBuilder,
) -> PeerStore {
    builder(name, network).config(change(PeerConfig::builder()).build().unwrap()).build()
}

/// Two stores, the second listening at `memory://bob`.
async fn two(network: &Transports) -> (PeerStore, PeerStore) {
    let (ann, bob) = (store("ann", network), store("bob", network));
    bob.listen("memory://bob").await.unwrap();
    (ann, bob)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits for something, and not for ever.
async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("it hangs")
}

async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(ms(1)).await;
        }
    })
    .await;
}

async fn next<T>(queue: &mut Queue<T>) -> T {
    soon(queue.next()).await.expect("no more")
}

/// Counts and delays the dials of the memory transport below, and can break them off.
#[derive(Clone, Debug)]
struct Counted {
    below: Arc<memory::Memory>,
    dials: Arc<AtomicUsize>,
    delay: Duration,
}

impl Counted {
    fn network(delay: Duration) -> (Transports, Self) {
        let below = Arc::new(memory::Memory::default());
        let counted = Self { below, dials: Arc::default(), delay };
        (Transports::none().with("memory", counted.clone()), counted)
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }
}

struct Slow {
    inner: Arc<dyn Connector>,
    dials: Arc<AtomicUsize>,
    delay: Duration,
}

impl Connector for Slow {
    fn connect(&self) -> Connecting {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let (inner, delay) = (self.inner.clone(), self.delay);
        async move {
            tokio::time::sleep(delay).await;
            inner.connect().await
        }
        .boxed()
    }
}

impl Transport for Counted {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        let inner = self.below.connector(address, settings)?.into();
        Ok(Box::new(Slow { inner, dials: self.dials.clone(), delay: self.delay }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        self.below.bind(address, settings)
    }
}

/// spec.md §16.1: a hundred callers, one dial.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_make_one_dial() {
    let (network, counted) = Counted::network(ms(50));
    let (ann, bob) = two(&network).await;
    let peers = join_all((0..100).map(|_| ann.connect("memory://bob"))).await;
    assert!(peers.iter().all(|peer| peer.as_ref().unwrap().id() == &id("bob")));
    assert_eq!((counted.dials(), ann.len()), (1, 1));
    ann.get(&id("bob")).await.unwrap();
    ann.connect("memory://bob").await.unwrap();
    assert_eq!(counted.dials(), 1);
    until(|| bob.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_waits_for_is_given_up() {
    let (network, counted) = Counted::network(ms(50));
    let (ann, _bob) = two(&network).await;
    assert!(tokio::time::timeout(ms(10), ann.connect("memory://bob")).await.is_err());
    tokio::time::sleep(ms(100)).await;
    assert_eq!((counted.dials(), ann.len(), ann.stats().dials), (1, 0, 0));
    ann.connect("memory://bob").await.unwrap();
    assert_eq!(counted.dials(), 2);
}

/// spec.md §16.1: who is reached or comes is as good.
#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_in_saves_a_dial_that_fails() {
    let (network, _) = Counted::network(ms(50));
    let (ann, bob) = (store("ann", &network), store("bob", &network));
    ann.listen("memory://ann").await.unwrap();
    ann.add_address(&id("bob"), "memory://nobody").unwrap();
    let wanted = id("bob");
    let late = async {
        tokio::time::sleep(ms(10)).await;
        ann.get(&wanted).await
    };
    let (got, reached) = tokio::join!(late, bob.connect("memory://ann"));
    assert!(got.is_ok() && reached.is_ok(), "{got:?} {reached:?}");
}

/// spec.md §16.3.
#[tokio::test(start_paused = true)]
async fn two_that_dial_each_other_at_once_keep_one_session() {
    let (network, _) = Counted::network(ms(20));
    let (ann, bob) = two(&network).await;
    ann.listen("memory://ann").await.unwrap();
    for round in 0..20 {
        let (to_bob, to_ann) = tokio::join!(
            async {
                tokio::time::sleep(ms(round % 5)).await;
                ann.connect("memory://bob").await
            },
            async {
                tokio::time::sleep(ms(round % 3)).await;
                bob.connect("memory://ann").await
            }
        );
        let (to_bob, to_ann) = (to_bob.unwrap(), to_ann.unwrap());
        // Both sides have settled, and on the one that the smaller id dialled.
        let settled = || ann.stats().sessions == 1 && bob.stats().sessions == 1;
        until(settled).await;
        tokio::time::sleep(ms(100)).await;
        assert!(settled());
        let (theirs, ours) = (to_bob.info().unwrap(), to_ann.info().unwrap());
        assert_eq!(theirs.dialled, !ours.dialled, "they do not agree");
        // And it carries messages both ways.
        let mut heard = bob.subscribe(|_| true, 4, Overflow::Wait);
        to_bob.send("over", Policy::Wait).await.unwrap();
        assert_eq!(next(&mut heard).await.body, "over");
        to_bob.disconnect().await;
        until(|| ann.is_empty() && bob.is_empty()).await;
    }
}

/// spec.md §16.3: a restart is noticed at once, and the old session removes nothing.
#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_replaces_its_session() {
    let network = Transports::default();
    let ann = store("ann", &network);
    ann.listen("memory://ann").await.unwrap();
    let mut events = ann.events();
    let first = store("bob", &network);
    first.connect("memory://ann").await.unwrap();
    assert!(matches!(next(&mut events).await, PeerEvent::Connected(_)));
    // The same id, another life: it knows nothing of the one before, which still runs.
    let second = store("bob", &network);
    second.connect("memory://ann").await.unwrap();
    assert!(matches!(next(&mut events).await, PeerEvent::Replaced(_)));
    until(|| first.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((ann.len(), second.len()), (1, 1));
    assert_eq!(events.try_next(), None);
}

/// spec.md §16.2: silence ends after the handshake's time, on both sides.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_two_seconds() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    // It accepts and says nothing.
    let address = Address::parse("memory://mute").unwrap();
    let settings = Settings::new(trunkline::tokio::runtime());
    let memory = network.find(&address).unwrap();
    let mut mute = memory.bind(&address, &settings).await.unwrap();
    let mute = tokio::spawn(async move {
        let connection = mute.accept().await;
        futures::future::pending::<()>().await;
        drop(connection);
    });
    let before = tokio::time::Instant::now();
    assert_eq!(ann.connect("memory://mute").await.unwrap_err(), ConnectError::TimedOut);
    assert_eq!(before.elapsed().as_secs(), 2);
    mute.abort();
    // It connects and says nothing.
    let address = Address::parse("memory://bob").unwrap();
    let connection = memory.connector(&address, &settings).unwrap().connect().await.unwrap();
    until(|| bob.stats().handshakes == 1).await;
    tokio::time::sleep(ms(2_001)).await;
    assert_eq!(bob.stats().handshakes, 0);
    drop(connection);
    assert_eq!(ann.stats().dials, 0);
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_limited_and_stall_nobody() {
    let network = Transports::default();
    let bob = configured("bob", &network, |config| config.max_handshakes(3));
    bob.listen("memory://bob").await.unwrap();
    let address = Address::parse("memory://bob").unwrap();
    let settings = Settings::new(trunkline::tokio::runtime());
    let connector = network.find(&address).unwrap().connector(&address, &settings).unwrap();
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(connector.connect().await.unwrap());
    }
    until(|| bob.stats().handshakes == 3).await;
    drop(silent);
    until(|| bob.stats().handshakes == 0).await;
    store("ann", &network).connect("memory://bob").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_handshake_harms_nobody() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let address = Address::parse("memory://bob").unwrap();
    let settings = Settings::new(trunkline::tokio::runtime());
    let connector = network.find(&address).unwrap().connector(&address, &settings).unwrap();
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[255; 64]] {
        let mut io = connector.connect().await.unwrap().into_io();
        let _ = futures::AsyncWriteExt::write_all(&mut io, junk).await;
    }
    for preface in [*b"TK\x04\x01", *b"TK\x01\x00", *b"nope"] {
        let io = connector.connect().await.unwrap().into_io();
        let (session, driver) = Session::client(io, trunkline::Config::default());
        tokio::spawn(driver);
        let mut stream = session.open().await.unwrap();
        futures::AsyncWriteExt::write_all(&mut stream, &preface).await.unwrap();
        futures::AsyncWriteExt::write_all(&mut stream, &[0; 40]).await.unwrap();
        assert!(soon(session.closed()).await.is_err() || session.is_closed());
    }
    until(|| bob.stats().handshakes == 0).await;
    ann.connect("memory://bob").await.unwrap();
}

/// spec.md §16.2: both sides judge, and the refused one is told why.
#[tokio::test(start_paused = true)]
async fn whoever_is_not_verified_is_told_why() {
    let network = Transports::default();
    let guarded = |claim: &Claim| match &claim.token[..] {
        b"secret" => Ok(Bytes::from_static(b"a friend")),
        _ => Err("who are you?".to_owned()),
    };
    let bob = builder("bob", &network).verify(guarded).build();
    bob.listen("memory://bob").await.unwrap();
    let stranger = store("eve", &network);
    let refused = stranger.connect("memory://bob").await.unwrap_err();
    let why = "who are you?".to_owned();
    assert_eq!(refused, ConnectError::Refused { code: RefusalCode::NotVerified, message: why });
    let friend = configured("ann", &network, |config| config.token(Bytes::from_static(b"secret")));
    friend.connect("memory://bob").await.unwrap();
    until(|| bob.len() == 1).await;
    assert_eq!(bob.peers()[0].identity, "a friend");
    // The one who dials judges too.
    let ann = builder("ann2", &network).verify(guarded).build();
    store("cat", &network).listen("memory://cat").await.unwrap();
    let refused = ann.connect("memory://cat").await.unwrap_err();
    assert_eq!(refused, ConnectError::NotVerified("who are you?".to_owned()));
    assert!(ann.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_another_identity_than_before_is_refused() {
    let network = Transports::default();
    let verify = |claim: &Claim| Ok(claim.token.clone());
    let bob = builder("bob", &network).verify(verify).build();
    bob.listen("memory://bob").await.unwrap();
    let mut events = bob.events();
    let ann = |key: &'static str| configured("ann", &network, |config| config.token(key.into()));
    let first = ann("key 1");
    first.connect("memory://bob").await.unwrap();
    assert!(matches!(next(&mut events).await, PeerEvent::Connected(_)));
    let refused = ann("key 2").connect("memory://bob").await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { code: RefusalCode::NotVerified, .. }));
    let changed = PeerEvent::IdentityChanged {
        id: id("ann"),
        before: "key 1".into(),
        now: "key 2".into(),
        accepted: false,
    };
    assert_eq!(next(&mut events).await, changed);
    assert_eq!((bob.len(), first.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_own_id_and_other_peers_are_not_who_was_meant() {
    let network = Transports::default();
    let (ann, _bob) = two(&network).await;
    let twin = store("bob", &network);
    let refused = twin.connect("memory://bob").await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { code: RefusalCode::SameId, .. }));
    ann.add_address(&id("cat"), "memory://bob").unwrap();
    assert_eq!(ann.get(&id("cat")).await.unwrap_err(), ConnectError::OtherPeer(id("bob")));
    assert_eq!(ann.get(&id("dog")).await.unwrap_err(), ConnectError::UnknownPeer);
    assert!(matches!(ann.connect("bob").await.unwrap_err(), ConnectError::Address(_)));
    assert!(matches!(ann.connect("pigeon://bob").await.unwrap_err(), ConnectError::Address(_)));
    assert!(matches!(ann.connect("memory://no").await.unwrap_err(), ConnectError::Dial(_)));
}

#[tokio::test(start_paused = true)]
async fn peers_are_limited() {
    let network = Transports::default();
    let bob = configured("bob", &network, |config| config.max_peers(2));
    bob.listen("memory://bob").await.unwrap();
    let stores = ["a", "b", "c"].map(|name| store(name, &network));
    let mut refused = 0;
    for store in &stores {
        if let Err(error) = store.connect("memory://bob").await {
            assert!(matches!(error, ConnectError::Refused { code: RefusalCode::TooMany, .. }));
            refused += 1;
        }
    }
    assert_eq!((refused, bob.len()), (1, 2));
}

/// spec.md §16.4: in order, per peer.
#[tokio::test(start_paused = true)]
async fn a_thousand_messages_arrive_in_order() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut heard = bob.subscribe(|_| true, 16, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let sent = tokio::spawn(async move {
        for number in 0..1_000_u32 {
            peer.send(number.to_be_bytes().to_vec(), Policy::Wait).await.unwrap();
        }
    });
    for number in 0..1_000_u32 {
        let message = next(&mut heard).await;
        assert_eq!((message.from, &message.body[..]), (id("ann"), &number.to_be_bytes()[..]));
    }
    sent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_or_makes_wait() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    // Nobody reads: the window and then the queue fill.
    let stuck = bob.subscribe(|_| true, 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let body = Bytes::from(vec![0; 256 << 10]);
    let mut fates: Vec<_> = (0..40).map(|_| peer.send(body.clone(), Policy::Drop)).collect();
    tokio::time::sleep(ms(100)).await;
    fates.extend((0..40).map(|_| peer.send(body.clone(), Policy::Drop)));
    let dropped = fates
        .iter_mut()
        .filter_map(|fate| fate.now_or_never())
        .filter(|fate| *fate == Err(SendError::Full))
        .count();
    assert!(dropped >= 20, "{dropped}");
    assert_eq!(ann.stats().dropped, dropped as u64);
    // A place comes free for those who wait, when someone reads.
    let mut waiting = peer.send("patient", Policy::Wait);
    assert_eq!((&mut waiting).now_or_never(), None);
    let mut stuck = stuck;
    let reading = tokio::spawn(async move {
        while let Some(message) = stuck.next().await {
            if message.body == "patient" {
                return;
            }
        }
    });
    soon(waiting).await.unwrap();
    soon(reading).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_full_peers_do_not_wait_for_each_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let (mut to_ann, mut to_bob) =
        (ann.subscribe(|_| true, 1, Overflow::Wait), bob.subscribe(|_| true, 1, Overflow::Wait));
    let there = ann.connect("memory://bob").await.unwrap();
    until(|| bob.len() == 1).await;
    let back = bob.peer(&id("ann"));
    let body = Bytes::from(vec![0; 64 << 10]);
    let send = |peer: trunkline::peers::Peer| {
        let body = body.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                peer.send(body.clone(), Policy::Wait).await.unwrap();
            }
        })
    };
    let (one, other) = (send(there), send(back));
    let read = async {
        for _ in 0..200 {
            next(&mut to_ann).await;
            next(&mut to_bob).await;
        }
    };
    soon(read).await;
    one.await.unwrap();
    other.await.unwrap();
}

/// spec.md §16.4: a handler stuck on one peer does not delay another.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_messages_nobody_takes_delays_no_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let cat = store("cat", &network);
    let _stuck = bob.subscribe(|message| message.from == id("ann"), 1, Overflow::Wait);
    let mut heard = bob.subscribe(|message| message.from == id("cat"), 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let fates: Vec<_> = (0..20).map(|_| peer.send("stuck", Policy::Drop)).collect();
    let peer = cat.connect("memory://bob").await.unwrap();
    for _ in 0..20 {
        peer.send("through", Policy::Wait).await.unwrap();
        assert_eq!(next(&mut heard).await.body, "through");
    }
    drop(fates);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_full_loses_what_it_said_it_would() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut oldest = bob.subscribe(|_| true, 2, Overflow::DropOldest);
    let mut newest = bob.subscribe(|_| true, 2, Overflow::DropNewest);
    let mut all = bob.subscribe(|_| true, 10, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    for number in 0..5_u8 {
        peer.send(vec![number], Policy::Wait).await.unwrap();
        assert_eq!(next(&mut all).await.body[0], number);
    }
    assert_eq!((oldest.lost(), newest.lost(), all.lost()), (3, 3, 0));
    let pair = |queue: &mut Queue<_>| {
        [(); 2].map(|()| queue.try_next().map(|m: trunkline::peers::Message| m.body[0]))
    };
    assert_eq!((pair(&mut oldest), pair(&mut newest)), ([Some(3), Some(4)], [Some(0), Some(1)]));
}

/// spec.md §16.4: every message is answered for.
#[tokio::test(start_paused = true)]
async fn every_fate_is_told_when_the_session_breaks() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let _stuck = bob.subscribe(|_| true, 1, Overflow::Wait);
    let peer = ann.connect("memory://bob").await.unwrap();
    let body = Bytes::from(vec![0; 256 << 10]);
    let fates: Vec<_> = (0..20).map(|_| peer.send(body.clone(), Policy::Drop)).collect();
    let asking = peer.clone();
    let acked = async move { asking.send_with_ack("?", Duration::from_secs(3_600)).await };
    let (waiting, acked) = (tokio::spawn(peer.send(body, Policy::Wait)), tokio::spawn(acked));
    tokio::time::sleep(ms(50)).await;
    peer.session().unwrap().abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    let fates = soon(join_all(fates)).await;
    assert!(
        fates.iter().any(|fate| matches!(fate, Err(SendError::Lost | SendError::Disconnected)))
    );
    assert!(soon(waiting).await.unwrap().is_err());
    assert!(soon(acked).await.unwrap().is_err());
    assert_eq!(peer.send("late", Policy::Wait).await, Err(SendError::Disconnected));
    assert_eq!(ann.stats().queues, 0);
}

#[tokio::test(start_paused = true)]
async fn acks_say_what_became_of_a_message() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut heard = bob.subscribe(|message| message.body != "unheard", 16, Overflow::Wait);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(message) = heard.next().await {
            match (&message.body[..], message.ack) {
                (b"good", Some(ack)) => ack.succeed(),
                (b"bad", Some(ack)) => ack.fail("no"),
                (b"slow", Some(ack)) => kept.push(ack),
                _ => {}
            }
        }
    });
    let peer = ann.connect("memory://bob").await.unwrap();
    let ask = |body: &'static str| peer.send_with_ack(body, ms(500));
    let failed = |why: &str| Err(SendError::Failed(why.to_owned()));
    assert_eq!(ask("good").await, Ok(()));
    assert_eq!(ask("bad").await, failed("no"));
    assert_eq!(ask("dropped").await, failed("nobody answered"));
    assert_eq!(ask("unheard").await, failed("nobody answered"));
    assert_eq!(ask("slow").await, Err(SendError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn enough_acks_of_many_make_a_report() {
    let network = Transports::default();
    let ann = store("ann", &network);
    let mut stores = Vec::new();
    for name in ["b", "c", "d", "e"] {
        let peer = store(name, &network);
        peer.listen(&format!("memory://{name}")).await.unwrap();
        let mut heard = peer.subscribe(|_| true, 16, Overflow::Wait);
        let name = name.to_owned();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(message) = heard.next().await {
                match (&*name, message.ack) {
                    ("b" | "c", Some(ack)) => ack.succeed(),
                    ("d", Some(ack)) => ack.fail("no"),
                    (_, ack) => kept.push(ack),
                }
            }
        });
        ann.connect(&format!("memory://{}", peer.id())).await.unwrap();
        stores.push(peer);
    }
    let all = ["b", "c", "d", "e", "nobody"].map(id);
    let report = ann.send_with_ack(&all, "hi", 2, ms(500)).await;
    assert_eq!(report.succeeded.len(), 2);
    let report = ann.send_with_ack(&all, "hi", 5, ms(500)).await;
    let failed: Vec<_> =
        report.failed.iter().map(|(id, error)| (id.to_string(), error.clone())).collect();
    assert_eq!((report.succeeded.len(), report.pending), (2, 0));
    assert!(failed.contains(&("d".to_owned(), SendError::Failed("no".to_owned()))), "{failed:?}");
    assert!(failed.contains(&("e".to_owned(), SendError::TimedOut)), "{failed:?}");
    assert!(failed.contains(&("nobody".to_owned(), SendError::Disconnected)), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_junk_loses_its_session_and_no_other() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    ann.connect("memory://bob").await.unwrap();
    // A peer by hand: a good handshake, and then no message.
    let address = Address::parse("memory://bob").unwrap();
    let settings = Settings::new(trunkline::tokio::runtime());
    let io = network.find(&address).unwrap().connector(&address, &settings).unwrap();
    let io = io.connect().await.unwrap().into_io();
    let (session, driver) = Session::client(io, trunkline::Config::default());
    tokio::spawn(driver);
    let mut stream = session.open().await.unwrap();
    let hello = b"TK\x04\0\0\x14\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x03eve";
    futures::AsyncWriteExt::write_all(&mut stream, hello).await.unwrap();
    until(|| bob.len() == 2).await;
    futures::AsyncWriteExt::write_all(&mut stream, &[9; 16]).await.unwrap();
    until(|| bob.len() == 1).await;
    assert_eq!(ann.len(), 1);
    assert!(soon(session.closed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn events_tell_a_clean_end_from_a_dead_peer() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let mut events = bob.events();
    let peer = ann.connect("memory://bob").await.unwrap();
    assert!(
        matches!(next(&mut events).await, PeerEvent::Connected(info) if info.id == id("ann") && !info.dialled)
    );
    peer.disconnect().await;
    assert_eq!(next(&mut events).await, PeerEvent::Disconnected(id("ann")));
    let peer = ann.connect("memory://bob").await.unwrap();
    assert!(matches!(next(&mut events).await, PeerEvent::Connected(_)));
    peer.session().unwrap().abort(trunkline::GoAwayCode::INTERNAL_ERROR);
    assert!(
        matches!(next(&mut events).await, PeerEvent::PresumedDead { id: who, .. } if who == id("ann"))
    );
}

/// spec.md §16.5: it is dialled again, with patience.
#[tokio::test(start_paused = true)]
async fn a_lost_peer_is_dialled_again_if_so_asked() {
    let (network, counted) = Counted::network(ms(1));
    let ann = configured("ann", &network, |config| config.reconnect(Some((ms(100), ms(1_000)))));
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    let peer = ann.connect("memory://bob").await.unwrap();
    bob.shutdown().await;
    until(|| ann.is_empty()).await;
    let before = counted.dials();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tried = counted.dials() - before;
    assert!((8..=40).contains(&tried), "{tried} dials in ten seconds");
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    until(|| ann.len() == 1).await;
    // Nobody wants it any more.
    peer.disconnect().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(ann.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_to_be_kept_is_dialled_until_it_is_there() {
    let (network, counted) = Counted::network(ms(1));
    let ann = store("ann", &network);
    ann.keep("memory://bob").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!((5..30).contains(&counted.dials()), "{}", counted.dials());
    for _ in 0..3 {
        let bob = store("bob", &network);
        bob.listen("memory://bob").await.unwrap();
        until(|| ann.len() == 1 && bob.len() == 1).await;
        bob.shutdown().await;
        until(|| ann.is_empty()).await;
    }
    ann.shutdown().await;
    let dials = counted.dials();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(counted.dials(), dials);
    assert!(matches!(ann.keep("pigeon://bob"), Err(ConnectError::Address(_))));
    assert_eq!(ann.keep("memory://bob"), Err(ConnectError::Closed));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_closes_what_is_being_dialled_too() {
    let (network, _) = Counted::network(Duration::from_secs(5));
    let (ann, bob) = two(&network).await;
    let dial = tokio::spawn({
        let ann = ann.clone();
        async move { ann.connect("memory://bob").await.map(drop) }
    });
    tokio::time::sleep(ms(10)).await;
    let (before, mut events) = (tokio::time::Instant::now(), ann.events());
    ann.shutdown().await;
    assert_eq!(soon(dial).await.unwrap(), Err(ConnectError::Closed));
    assert!(before.elapsed() < ms(100));
    assert_eq!(events.next().await, None);
    assert_eq!(ann.connect("memory://bob").await.unwrap_err(), ConnectError::Closed);
    assert_eq!(
        bob.connect("memory://no").await.unwrap_err(),
        ConnectError::Dial(io::ErrorKind::ConnectionRefused)
    );
    assert_eq!(ann.stats(), Default::default());
    ann.shutdown().await;
}

/// spec.md §16.4: neither side has to wait for a time limit.
#[tokio::test(start_paused = true)]
async fn peers_that_answer_are_closed_at_once_and_cleanly() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let (mut ours, mut theirs) = (ann.events(), bob.events());
    let peer = ann.connect("memory://bob").await.unwrap();
    peer.send("last words", Policy::Wait).await.unwrap();
    until(|| bob.len() == 1).await;
    let before = tokio::time::Instant::now();
    ann.shutdown().await;
    assert!(before.elapsed() < ms(100), "{:?}", before.elapsed());
    until(|| bob.is_empty()).await;
    assert!(matches!(next(&mut ours).await, PeerEvent::Connected(_)));
    assert_eq!(next(&mut ours).await, PeerEvent::Disconnected(id("bob")));
    assert!(matches!(next(&mut theirs).await, PeerEvent::Connected(_)));
    assert_eq!(next(&mut theirs).await, PeerEvent::Disconnected(id("ann")));
    assert_eq!(bob.stats(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_peers_that_do_not_answer_cost_one_close_timeout() {
    let network = Transports::default();
    let bob = store("bob", &network);
    bob.listen("memory://bob").await.unwrap();
    let address = Address::parse("memory://bob").unwrap();
    let settings = Settings::new(trunkline::tokio::runtime());
    let connector = network.find(&address).unwrap().connector(&address, &settings).unwrap();
    let mut streams = Vec::new();
    for number in 0..100_u8 {
        let io = connector.connect().await.unwrap().into_io();
        let (session, driver) = Session::client(io, trunkline::Config::default());
        tokio::spawn(driver);
        let mut stream = session.open().await.unwrap();
        let mut hello = b"TK\x04\0\0\x12\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\x01".to_vec();
        hello.push(number);
        futures::AsyncWriteExt::write_all(&mut stream, &hello).await.unwrap();
        streams.push((session, stream));
    }
    until(|| bob.len() == 100).await;
    let before = tokio::time::Instant::now();
    soon(bob.shutdown()).await;
    assert!(before.elapsed() <= Duration::from_secs(5) + ms(10), "{:?}", before.elapsed());
    assert_eq!(bob.stats(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_closes_and_sends_at_once_come_to_an_end() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let peer = ann.connect("memory://bob").await.unwrap();
    let sends = join_all((0..100).map(|_| peer.send("hi", Policy::Wait)));
    let closes = join_all((0..100).map(|_| peer.disconnect()));
    let (sent, _) = soon(futures::future::join(sends, closes)).await;
    assert_eq!(sent.len(), 100);
    until(|| ann.is_empty() && bob.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_tells_what_is_known_of_it() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    let peer = ann.connect("memory://bob").await.unwrap();
    let info = peer.info().unwrap();
    assert_eq!((info.id, info.dialled), (id("bob"), true));
    assert_eq!(
        info.remote_addr.map(|address| address.to_string()),
        Some("memory://bob".to_owned())
    );
    until(|| bob.len() == 1).await;
    assert_eq!(bob.peers()[0].id, id("ann"));
    assert!(bob.peer(&id("nobody")).info().is_none());
    peer.disconnect().await;
    assert!(peer.info().is_none() && peer.session().is_none());
    peer.connected().await.unwrap();
    assert!(peer.session().is_some());
}

#[tokio::test(start_paused = true)]
async fn several_sessions_with_one_peer_are_kept_if_so_asked() {
    let network = Transports::default();
    let two_each = |name| configured(name, &network, |config| config.sessions_per_peer(2));
    let (ann, bob) = (two_each("ann"), two_each("bob"));
    ann.listen("memory://ann").await.unwrap();
    bob.listen("memory://bob").await.unwrap();
    ann.connect("memory://bob").await.unwrap();
    bob.connect("memory://ann").await.unwrap();
    until(|| ann.stats().sessions == 2 && bob.stats().sessions == 2).await;
    assert_eq!((ann.len(), bob.len()), (1, 1));
}

#[test]
fn limits_out_of_range_have_a_name() {
    type Change = fn(PeerConfigBuilder) -> PeerConfigBuilder;
    let broken: [(&str, Change); 6] = [
        ("sessions_per_peer", |config| config.sessions_per_peer(0)),
        ("max_peers", |config| config.max_peers(0)),
        ("out_queue", |config| config.out_queue(0)),
        ("max_message", |config| config.max_message(0)),
        ("handshake_timeout", |config| config.handshake_timeout(Duration::ZERO)),
        ("token", |config| config.token(vec![0; 40_000].into())),
    ];
    for (field, break_it) in broken {
        let error = break_it(PeerConfig::builder()).build().unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

// What a test of one's own transport needs; the compiler would say if it did not fit.
const _: fn(Connection) -> Box<dyn trunkline::transport::Io> = Connection::into_io;
const _: Option<Box<dyn Acceptor>> = None;
