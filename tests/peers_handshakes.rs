//! Handshakes that break every rule they can: each is over in time, has a name, and hurts nobody else.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;
#[path = "support/witness.rs"]
mod witness;

use futures::{AsyncReadExt, AsyncWriteExt};
use trunkline::{
    Config, GoAwayCode, ResetCode, Session,
    peers::{Claim, ConnectError, Policy, RefusalCode},
};
use wires::{Net, answer, at, framed, hello, id, introduction, ms, pause, secs, soon, until};
use witness::{Witness, bob, end};

/// spec.md §16.2.2: told why, and closed.
#[tokio::test(start_paused = true)]
async fn a_hello_that_makes_no_sense_is_refused_by_its_code() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let introduced = introduction(1, 1, "eve");
    let mut cases: Vec<(Vec<u8>, u8)> =
        (0..introduced.len()).map(|len| (introduced[..len].to_vec(), 4)).collect();
    // An id of no bytes, one that is longer than what there is, and the store's own.
    cases.push((introduction(1, 1, ""), 4));
    cases.push(([&introduced[..16], &[255], &[7; 254]].concat(), 4));
    cases.push((introduction(1, 1, "bob"), 5));
    for (bytes, code) in cases {
        let said = [&b"TK\x04\0"[..], &framed(&bytes)].concat();
        let (session, mut stream) = net.say("bob", &said).await;
        let answered = answer(&mut stream).await.unwrap();
        assert_eq!(answered[0], code, "{bytes:?}");
        assert!(std::str::from_utf8(&answered[1..]).is_ok_and(|words| !words.is_empty()));
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
        stream.close().await.unwrap();
        soon(session.closed()).await.unwrap();
        until(|| bob.stats().handshakes == 0).await;
    }
    assert_eq!(bob.len(), 1);
    witness.is_well().await;
}

/// spec.md §16.2.1: the longest of everything.
#[tokio::test(start_paused = true)]
async fn the_longest_id_and_token_go_through() {
    let net = Net::default();
    let long = "n".repeat(255);
    let verify = |claim: &Claim| Ok(claim.token.clone());
    let bob = net.builder("bob").verify(verify).build();
    bob.listen(&at("bob")).await.unwrap();
    let token = vec![7; 32 << 10];
    let ann = net.configured(&long, |config| config.token(token.clone().into())).await;
    ann.connect(&at("bob")).await.unwrap();
    until(|| bob.len() == 1).await;
    assert_eq!((&bob.peers()[0].id, &bob.peers()[0].identity), (&id(&long), &token.into()));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_may_come_one_byte_at_a_time_and_end_anywhere() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    let bytes = hello(1, 1, "eve");
    let (_session, mut stream) = net.say("bob", &bytes[..1]).await;
    for byte in &bytes[1..] {
        assert_eq!(bob.len(), 1);
        pause(ms(10)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(soon(answer(&mut stream)).await.unwrap()[0], 0);
    until(|| bob.len() == 2).await;
    for len in 0..bytes.len() {
        for way in 0..3 {
            let (session, mut stream) = net.say("bob", &bytes[..len]).await;
            match way {
                0 => session.abort(GoAwayCode::NORMAL),
                1 => stream.reset(ResetCode::CANCELLED),
                _ => drop(stream.close().await),
            }
            soon(session.closed()).await.ok();
            until(|| bob.stats().handshakes == 0).await;
        }
    }
    witness.is_well().await;
}

/// spec.md §16.1.2, §16.2.4: no session for those who speak something else, or too slowly.
#[tokio::test(start_paused = true)]
async fn another_version_kind_or_promise_ends_the_session() {
    let net = Net::default();
    let (bob, mut witness) = bob(&net).await;
    for preface in [*b"TK\x04\x01", *b"TK\x04\xff", *b"TK\x02\0", *b"\0\0\0\0", *b"GET "] {
        let said = [&preface[..], &framed(&introduction(1, 1, "eve"))].concat();
        let (session, _stream) = net.say("bob", &said).await;
        end(&session).await;
    }
    // The longest hello, of which the most comes: nothing is taken for granted of the rest.
    let before = tokio::time::Instant::now();
    let said = [&b"TK\x04\0\xff\xff"[..], &[1; 65_534]].concat();
    let (session, _stream) = net.say("bob", &said).await;
    end(&session).await;
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!((bob.stats().handshakes, bob.len()), (0, 1));
    witness.is_well().await;
}

/// What a dialler makes of those who answer what they should not.
#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_has_a_name() {
    let refused = |code: u8, words: &[u8]| framed(&[&[code][..], words].concat());
    let welcome = |name: &str| framed(&[&[0][..], &introduction(9, 0, name)].concat());
    let other = RefusalCode::Other(77.try_into().unwrap());
    let cases: Vec<(Vec<u8>, ConnectError)> = vec![
        (framed(b""), ConnectError::Malformed),
        (framed(b"\0"), ConnectError::Malformed),
        (welcome(""), ConnectError::Malformed),
        (welcome("ann"), ConnectError::OtherPeer(id("ann"))),
        (welcome("eve"), ConnectError::OtherPeer(id("eve"))),
        (
            refused(2, b"no"),
            ConnectError::Refused { code: RefusalCode::TooMany, message: "no".into() },
        ),
        (refused(77, b"\xff"), ConnectError::Refused { code: other, message: "\u{fffd}".into() }),
        (refused(1, &[b'x'; 4_097]), ConnectError::Malformed),
        (b"\xff\xff\0".to_vec(), ConnectError::TimedOut),
        (Vec::new(), ConnectError::TimedOut),
    ];
    for (bytes, expected) in cases {
        let net = Net::default();
        let ann = net.store("ann").await;
        ann.add_address(&id("bob"), &at("bob")).unwrap();
        let mut acceptor = net.acceptor("bob").await;
        let said = bytes.clone();
        let answering = tokio::spawn(async move {
            let io = acceptor.accept().await.unwrap().into_io();
            let (session, driver) = Session::server(io, Config::default());
            tokio::spawn(driver);
            let mut stream = session.accept().await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream.flush().await.unwrap();
            soon(session.closed()).await.ok();
            drop(stream);
        });
        assert_eq!(soon(ann.get(&id("bob"))).await.unwrap_err(), expected, "{bytes:?}");
        soon(answering).await.unwrap();
        assert_eq!((ann.stats(), net.open()), (Default::default(), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_ends_during_the_handshake_has_a_name_too() {
    for way in 0..4 {
        let net = Net::default();
        let ann = net.store("ann").await;
        let mut acceptor = net.acceptor("bob").await;
        tokio::spawn(async move {
            let io = acceptor.accept().await.unwrap().into_io();
            if way == 0 {
                return;
            }
            let (session, driver) = Session::server(io, Config::default());
            tokio::spawn(driver);
            let mut stream = session.accept().await.unwrap();
            match way {
                1 => stream.reset(ResetCode::REFUSED),
                2 => stream.close().await.unwrap(),
                _ => session.abort(GoAwayCode::INTERNAL_ERROR),
            }
            session.closed().await.ok();
        });
        let error = soon(ann.connect(&at("bob"))).await.unwrap_err();
        match way {
            1 | 2 => assert_eq!(error, ConnectError::Malformed),
            _ => assert!(matches!(error, ConnectError::Session(_)), "{way}: {error:?}"),
        }
        until(|| ann.stats() == Default::default() && net.open() == 0).await;
    }
}

/// spec.md §16.2.4: what is refused because of a limit of ours leaves no connection behind.
#[tokio::test(start_paused = true)]
async fn a_dial_beyond_the_limit_of_peers_leaves_nothing() {
    let net = Net::default();
    let ann = net.configured("ann", |config| config.max_peers(1)).await;
    let (bob, cat) = (net.store("bob").await, net.store("cat").await);
    ann.connect(&at("bob")).await.unwrap();
    for _ in 0..10 {
        assert_eq!(ann.connect(&at("cat")).await.unwrap_err(), ConnectError::TooMany);
    }
    until(|| net.open() == 1).await;
    until(|| cat.is_empty()).await;
    assert_eq!(bob.len(), 1);
}

/// spec.md §16.2.3: whoever says it is another has to show it, and hurts it not.
#[tokio::test(start_paused = true)]
async fn the_id_of_another_without_its_proof_changes_nothing() {
    let net = Net::default();
    let verify = |claim: &Claim| match (&claim.token[..], claim.id.as_bytes()) {
        (b"ann's key", b"ann") => Ok("ann".into()),
        _ => Err("that is another's".to_owned()),
    };
    let bob = net.builder("bob").verify(verify).build();
    bob.listen(&at("bob")).await.unwrap();
    let ann = net.configured("ann", |config| config.token("ann's key".into())).await;
    let peer = ann.connect(&at("bob")).await.unwrap();
    let session = peer.session().unwrap();
    let mut events = bob.events();
    for incarnation in 0..100 {
        let (_session, mut stream) = net.say("bob", &hello(incarnation, 1 << 40, "ann")).await;
        assert_eq!(answer(&mut stream).await.unwrap(), b"\x01that is another's");
    }
    assert!(!session.is_closed());
    assert_eq!((bob.len(), events.try_next()), (1, None));
    peer.send("still", Policy::Wait).await.unwrap();
}

/// spec.md §16.2.4: diallers in a loop take up no more than there is for them.
#[tokio::test(start_paused = true)]
async fn silent_diallers_in_a_loop_are_limited_and_over_in_time() {
    let net = Net::default();
    let bob = net.configured("bob", |config| config.max_handshakes(16)).await;
    let mut witness = Witness::new(&net, &bob).await;
    let mut silent = Vec::new();
    for number in 0..1_000 {
        silent.push(net.plain("bob").await);
        if number % 50 == 0 {
            pause(ms(1)).await;
        }
        assert!(bob.stats().handshakes <= 16);
    }
    witness.is_well().await;
    pause(secs(2)).await;
    assert_eq!(bob.stats().handshakes, 0);
    net.peer("bob", "cat", 1).await;
    // Those who are refused hold no place for longer than a close may take.
    let mut refused = Vec::new();
    for _ in 0..16 {
        refused.push(net.say("bob", &hello(1, 1, "bob")).await);
    }
    until(|| bob.stats().handshakes == 16).await;
    pause(secs(7)).await;
    assert_eq!(bob.stats().handshakes, 0);
    drop(silent);
}

/// Those who were told why they are refused, and do not go.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_those_who_were_refused_too() {
    let net = Net::default();
    let bob = net.store("bob").await;
    let (session, mut stream) = net.say("bob", &hello(1, 1, "bob")).await;
    assert_eq!(answer(&mut stream).await.unwrap()[0], 5);
    assert_eq!(bob.stats().handshakes, 1);
    soon(bob.shutdown()).await;
    pause(ms(10)).await;
    assert!(session.is_closed());
}
