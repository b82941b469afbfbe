//! Who dials whom, who is who, and how many: the sessions of stores of peers.
#![allow(clippy::unwrap_used)]

#[path = "support/peers.rs"]
mod peers;

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncWriteExt, future::join_all};
use peers::{
    Counted, address, builder, configured, id, ms, next, pause, plain, say, secs, settings, soon,
    store, two, until,
};
use trunkline::{
    peers::{
        Claim, ConnectError, Overflow, PeerConfig, PeerConfigBuilder, PeerEvent, Policy,
        RefusalCode,
    },
    transport::Transports,
};

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
    pause(ms(100)).await;
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
        pause(ms(10)).await;
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
                pause(ms(round % 5)).await;
                ann.connect("memory://bob").await
            },
            async {
                pause(ms(round % 3)).await;
                bob.connect("memory://ann").await
            }
        );
        let (to_bob, to_ann) = (to_bob.unwrap(), to_ann.unwrap());
        // Both sides have settled, and on the one that the smaller id dialled.
        let settled = || ann.stats().sessions == 1 && bob.stats().sessions == 1;
        until(settled).await;
        pause(ms(100)).await;
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
    pause(secs(10)).await;
    assert_eq!((ann.len(), second.len()), (1, 1));
    assert_eq!(events.try_next(), None);
}

/// spec.md §16.2: silence ends after the handshake's time, on both sides.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_two_seconds() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    // It accepts and says nothing.
    let memory = network.find(&address("mute")).unwrap();
    let mut mute = memory.bind(&address("mute"), &settings()).await.unwrap();
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
    let connection = plain(&network, "bob").await;
    until(|| bob.stats().handshakes == 1).await;
    pause(ms(2_001)).await;
    assert_eq!(bob.stats().handshakes, 0);
    drop(connection);
    assert_eq!(ann.stats().dials, 0);
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_limited_and_stall_nobody() {
    let network = Transports::default();
    let bob = configured("bob", &network, |config| config.max_handshakes(3));
    bob.listen("memory://bob").await.unwrap();
    let silent = join_all((0..5).map(|_| plain(&network, "bob"))).await;
    until(|| bob.stats().handshakes == 3).await;
    drop(silent);
    until(|| bob.stats().handshakes == 0).await;
    store("ann", &network).connect("memory://bob").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_handshake_harms_nobody() {
    let network = Transports::default();
    let (ann, bob) = two(&network).await;
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[255; 64]] {
        plain(&network, "bob").await.write_all(junk).await.ok();
    }
    for preface in [*b"TK\x04\x01", *b"TK\x01\x00", *b"nope"] {
        let (session, _stream) = say(&network, "bob", &[&preface[..], &[0; 40]].concat()).await;
        assert!(soon(session.closed()).await.is_err());
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
    let broken: [(&str, Change); 7] = [
        ("sessions_per_peer", |config| config.sessions_per_peer(0)),
        ("max_peers", |config| config.max_peers(0)),
        ("out_queue", |config| config.out_queue(0)),
        ("max_message", |config| config.max_message(0)),
        ("handshake_timeout", |config| config.handshake_timeout(Duration::ZERO)),
        ("reconnect", |config| config.reconnect(Some((Duration::ZERO, Duration::ZERO)))),
        ("token", |config| config.token(vec![0; 40_000].into())),
    ];
    for (field, break_it) in broken {
        let error = break_it(PeerConfig::builder()).build().unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}
