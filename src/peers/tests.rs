//! The table between two stores, every order of what happens; and the bytes.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use bytes::Bytes;

use futures::channel::oneshot;

use super::{
    PeerId, RefusalCode,
    mailbox::{Mailbox, Outgoing},
    state::State,
    table::{Facts, Table},
    wire::{Answer, Decoder, Frame, Hello},
};
use crate::chance::Chance;

fn id(name: &'static str) -> PeerId {
    PeerId::new(name).unwrap()
}

/// One end: what a store does with dials, hellos, answers and ends, without bytes and tasks.
struct End {
    table: Table<usize>,
    /// The generation of each connection that is in the table.
    entered: Vec<Option<u64>>,
    incarnation: u64,
    begun: u64,
    inbox: VecDeque<Happening>,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Hello { connection: usize },
    Welcome { connection: usize, answered_after: u64 },
    Closed { connection: usize },
}

impl Happening {
    const fn connection(self) -> usize {
        match self {
            Self::Hello { connection }
            | Self::Welcome { connection, .. }
            | Self::Closed { connection } => connection,
        }
    }
}

struct Two {
    ends: [End; 2],
    names: [PeerId; 2],
    /// Who dialled each connection, with which number, and whether each end believes that it is
    /// open.
    connections: Vec<(usize, u64, [bool; 2])>,
}

impl Two {
    fn new() -> Self {
        let names = [id("a"), id("b")];
        let end = |at: usize| End {
            table: Table::new(names[at].clone(), 1),
            entered: Vec::new(),
            incarnation: 1,
            begun: 0,
            inbox: VecDeque::new(),
        };
        Self { ends: [end(0), end(1)], names: names.clone(), connections: Vec::new() }
    }

    fn dial(&mut self, from: usize) {
        self.ends[from].begun += 1;
        let dial = self.ends[from].begun;
        let connection = self.connections.len();
        self.connections.push((from, dial, [true; 2]));
        self.ends[1 - from].inbox.push_back(Happening::Hello { connection });
    }

    fn enter(&mut self, at: usize, connection: usize, answered_after: u64) {
        let (from, dial, open) = self.connections[connection];
        if !open[at] {
            return;
        }
        let facts = Facts {
            incarnation: self.ends[1 - at].incarnation,
            dialled: from == at,
            dial,
            answered_after,
        };
        let peer = self.names[1 - at].clone();
        let entered = self.ends[at].table.enter(&peer, facts, connection);
        let generations = &mut self.ends[at].entered;
        generations.resize(generations.len().max(connection + 1), None);
        generations[connection] = entered.generation;
        for loser in entered.losers {
            self.close(at, loser);
        }
    }

    /// One end closes a connection; the other hears of it behind what was said before.
    fn close(&mut self, at: usize, connection: usize) {
        if std::mem::replace(&mut self.connections[connection].2[at], false) {
            self.ends[1 - at].inbox.push_back(Happening::Closed { connection });
        }
    }

    /// One thing that waits at one end happens: the first on some connection, for one connection
    /// may be slower than another.
    fn step(&mut self, at: usize, chance: &mut Chance) -> bool {
        let inbox = &mut self.ends[at].inbox;
        if inbox.is_empty() {
            return false;
        }
        let connection = inbox[(chance.next() % inbox.len() as u64) as usize].connection();
        let first = inbox.iter().position(|it| it.connection() == connection).unwrap();
        let happening = inbox.remove(first).unwrap();
        match happening {
            Happening::Hello { connection } => {
                let answered_after = self.ends[at].begun;
                self.enter(at, connection, answered_after);
                self.ends[1 - at]
                    .inbox
                    .push_back(Happening::Welcome { connection, answered_after });
            }
            Happening::Welcome { connection, answered_after } => {
                self.enter(at, connection, answered_after);
            }
            Happening::Closed { connection } => {
                self.close(at, connection);
                let generation = self.ends[at].entered.get(connection).copied().flatten();
                if let Some(generation) = generation {
                    let peer = self.names[1 - at].clone();
                    self.ends[at].table.leave(&peer, generation);
                }
            }
        }
        true
    }

    fn settle(&mut self, chance: &mut Chance) {
        while self.ends.iter().any(|end| !end.inbox.is_empty()) {
            let at = (chance.next() % 2) as usize;
            if !self.step(at, chance) {
                self.step(1 - at, chance);
            }
        }
    }

    /// Both keep the same one.
    fn agreed(&self) -> Option<usize> {
        let [a, b] = [0, 1].map(|at| self.ends[at].table.get(&self.names[1 - at]).copied());
        assert_eq!(a, b, "{:?}", self.connections);
        for at in [0, 1] {
            assert!(self.ends[at].table.all(&self.names[1 - at]).count() <= 1);
        }
        a
    }
}

/// `spec.md §16.3`: whatever the order, one session survives, and it is the same for both.
#[test]
fn simultaneous_dials_leave_one_session_that_both_agree_on() {
    for seed in 0..20_000 {
        let mut chance = Chance::new(Some(seed));
        let mut two = Two::new();
        for _ in 0..2 + chance.next() % 5 {
            match chance.next() % 3 {
                0 => two.dial(0),
                1 => two.dial(1),
                _ => {
                    let at = (chance.next() % 2) as usize;
                    two.step(at, &mut chance);
                }
            }
        }
        two.dial(0);
        two.dial(1);
        two.settle(&mut chance);
        let survivor = two.agreed();
        assert!(survivor.is_some_and(|at| two.connections[at].2 == [true; 2]), "seed {seed}");
        let open = two.connections.iter().filter(|(_, _, open)| open[0] || open[1]).count();
        assert_eq!(open, 1, "seed {seed}");
    }
}

/// `spec.md §16.3`: who dials again after having answered has lost what it answered.
#[test]
fn a_later_dial_replaces_a_session_that_only_one_side_still_believes_in() {
    let mut chance = Chance::new(Some(1));
    let mut two = Two::new();
    two.dial(0);
    two.settle(&mut chance);
    assert_eq!(two.agreed(), Some(0));
    // The larger one alone notices that it broke.
    let generation = two.ends[1].entered[0].unwrap();
    two.ends[1].table.leave(&id("a"), generation);
    two.dial(1);
    two.settle(&mut chance);
    assert_eq!(two.agreed(), Some(1));
}

#[test]
fn another_life_of_the_peer_replaces_the_one_before() {
    let mut table = Table::new(id("a"), 1);
    let facts = Facts { incarnation: 1, dialled: true, dial: 9, answered_after: 9 };
    assert!(table.enter(&id("b"), facts, 'x').generation.is_some());
    let reborn = Facts { incarnation: 2, dialled: false, dial: 1, answered_after: 9 };
    let entered = table.enter(&id("b"), reborn, 'y');
    assert_eq!((entered.generation.is_some(), entered.losers), (true, vec!['x']));
    assert_eq!(table.get(&id("b")), Some(&'y'));
}

/// `spec.md §16.3.5`: also when what overtook it has gone.
#[test]
fn a_dial_that_was_overtaken_is_not_kept() {
    let mut table = Table::new(id("a"), 1);
    let facts =
        |dialled, dial, answered_after| Facts { incarnation: 1, dialled, dial, answered_after };
    assert!(table.enter(&id("b"), facts(true, 2, 0), "ours").generation.is_some());
    let theirs = table.enter(&id("b"), facts(false, 1, 2), "theirs");
    assert_eq!((theirs.generation.is_some(), theirs.losers), (true, vec!["ours"]));
    let late = table.enter(&id("b"), facts(true, 1, 1), "late");
    assert_eq!((late.generation, late.losers), (None, vec!["late"]));
    // A new life counts anew.
    let reborn = Facts { incarnation: 2, ..facts(true, 1, 1) };
    assert!(table.enter(&id("b"), reborn, "new").generation.is_some());
}

#[test]
fn an_old_session_cannot_remove_its_successor() {
    let mut table = Table::new(id("a"), 1);
    let facts = |dial| Facts { incarnation: 1, dialled: true, dial, answered_after: 0 };
    let old = table.enter(&id("b"), facts(1), 'x').generation.unwrap();
    let new = table.enter(&id("b"), facts(2), 'y').generation.unwrap();
    assert_eq!(table.leave(&id("b"), old), None);
    assert_eq!(table.get(&id("b")), Some(&'y'));
    let left = table.leave(&id("b"), new).unwrap();
    assert_eq!((left.item, left.last, table.len()), ('y', true, 0));
}

#[test]
fn several_sessions_per_peer_are_kept_if_so_asked() {
    let mut table = Table::new(id("a"), 2);
    let facts = |dial| Facts { incarnation: 1, dialled: true, dial, answered_after: 0 };
    assert!(table.enter(&id("b"), facts(1), 1).losers.is_empty());
    assert!(table.enter(&id("b"), facts(2), 2).losers.is_empty());
    assert_eq!(table.enter(&id("b"), facts(3), 3).losers, [1]);
    assert_eq!((table.all(&id("b")).count(), table.len()), (2, 1));
    // Whatever the other side had begun meanwhile.
    let mut table = Table::new(id("a"), 2);
    let facts = |dial, answered_after| Facts { answered_after, ..facts(dial) };
    table.enter(&id("b"), facts(1, 9), 1);
    table.enter(&id("b"), facts(2, 0), 2);
    assert_eq!(table.enter(&id("b"), facts(3, 0), 3).losers, [1]);
    // The worst of those that the other side dialled before.
    let mut table = Table::new(id("a"), 2);
    let theirs = |dial| Facts { dialled: false, ..facts(dial, 0) };
    table.enter(&id("b"), theirs(1), 1);
    table.enter(&id("b"), theirs(2), 2);
    assert_eq!(table.enter(&id("b"), facts(1, 0), 3).losers, [1]);
}

/// `spec.md §16.2`, the worked example.
#[test]
fn a_handshake_has_these_bytes() {
    let hello = Hello { incarnation: 1, dials: 2, id: id("ann"), token: Bytes::from_static(b"t") };
    let bytes = b"\0\x15\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x03annt";
    assert_eq!(hello.encode(), bytes);
    assert_eq!(Hello::decode(Bytes::from_static(&bytes[2..])), Ok(hello.clone()));
    let welcome = Answer::Welcome(hello);
    assert_eq!(welcome.encode()[..3], [0, 0x16, 0]);
    assert_eq!(Answer::decode(Bytes::from(welcome.encode().split_off(2))), Ok(welcome));
    let refused = Answer::Refused(RefusalCode::TooMany, "no".to_owned());
    assert_eq!(refused.encode(), b"\0\x03\x02no");
    assert_eq!(Answer::decode(Bytes::from_static(b"\x02no")), Ok(refused));
}

/// `spec.md §16.2.2`: no code is taken for a welcome, or for another.
#[test]
fn every_refusal_is_read_as_it_was_written() {
    for number in 1..=u8::MAX {
        let bytes = Bytes::from(vec![number, b'n', b'o']);
        let refused = Answer::decode(bytes.clone()).unwrap();
        assert!(matches!(&refused, Answer::Refused(_, words) if words == "no"), "{refused:?}");
        assert_eq!(refused.encode()[2..], bytes[..]);
    }
}

/// `spec.md §16.4`, the worked examples.
#[test]
fn messages_have_these_bytes() {
    let body = Bytes::from_static(b"hi");
    let plain = Frame::Message { number: None, body: body.clone() };
    assert_eq!(plain.head(), b"\x01\0\0\0\0\0\0\x02");
    let numbered = Frame::Message { number: Some(7), body };
    assert_eq!(numbered.head(), b"\x01\x01\0\0\0\0\0\x02\0\0\0\0\0\0\0\x07");
    let ack = Frame::Ack { number: 7, error: None };
    assert_eq!(ack.head(), b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07");
    let nack = Frame::Ack { number: 7, error: Some("no".to_owned()) };
    assert_eq!(nack.head(), b"\x02\x01\0\0\0\0\0\x02\0\0\0\0\0\0\0\x07no");
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.head();
    if let Frame::Message { body, .. } = frame {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[test]
fn messages_survive_any_split() {
    fn survives(frames: Vec<(Option<u64>, Vec<u8>, bool)>, cuts: Vec<u8>) -> bool {
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(number, body, ack)| match (number, ack) {
                (Some(number), true) => Frame::Ack {
                    number,
                    error: (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned()),
                },
                (number, _) => Frame::Message { number, body: body.into() },
            })
            .collect();
        let bytes: Vec<u8> = frames.iter().flat_map(bytes_of).collect();
        let mut decoder = Decoder::new(1 << 20);
        let (mut rest, mut read) = (&bytes[..], Vec::new());
        let mut cuts = cuts.into_iter().chain(std::iter::repeat(255));
        while !rest.is_empty() {
            let len = usize::from(cuts.next().unwrap()).clamp(1, rest.len());
            decoder.feed(&rest[..len]);
            rest = &rest[len..];
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame);
            }
        }
        read == frames && !decoder.is_partial()
    }
    quickcheck::quickcheck(survives as fn(Vec<(Option<u64>, Vec<u8>, bool)>, Vec<u8>) -> bool);
}

/// `spec.md §16.4`: what cannot be understood is an error at once, not when it is complete.
#[test]
fn what_is_no_message_is_refused_by_its_head() {
    for head in [
        *b"\0\0\0\0\0\0\0\0",
        *b"\x03\0\0\0\0\0\0\0",
        *b"\x01\x02\0\0\0\0\0\0",
        *b"\x01\0\0\x01\0\0\0\0",
        *b"\x01\0\0\0\0\x10\0\x01",
        *b"\x02\0\0\0\0\0\x10\x01",
    ] {
        let mut decoder = Decoder::new(1 << 20);
        decoder.feed(&head);
        assert!(decoder.next_frame().is_err(), "{head:02x?}");
    }
}

#[test]
fn anything_is_understood_or_refused() {
    fn holds(bytes: Vec<u8>) -> bool {
        let mut decoder = Decoder::new(1 << 10);
        decoder.feed(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
        let _ = Hello::decode(bytes.clone().into());
        let _ = Answer::decode(bytes.into());
        true
    }
    quickcheck::quickcheck(holds as fn(Vec<u8>) -> bool);
}

/// `spec.md §16.5`: those who come by themselves are forgotten first, and only when there are many.
#[test]
fn few_peers_are_remembered() {
    let mut state = State::new(id("me"), 1, oneshot::channel().0);
    state.remember(&id("kept"), 2).keep = true;
    let address = crate::transport::Address::parse("memory://found").unwrap();
    state.remember(&id("found"), 2).found_at(address.clone());
    for number in 0..1_000 {
        state.remember(&PeerId::new(format!("stranger {number}")).unwrap(), 2);
        assert!(state.known.len() <= 8);
    }
    assert_eq!(state.known.len(), 8);
    assert!(state.known.contains_key(&id("found")));
    for number in 0..1_000 {
        let dialled = PeerId::new(format!("dialled {number}")).unwrap();
        state.remember(&dialled, 2).found_at(address.clone());
    }
    assert!(state.known.len() == 8 && state.known.contains_key(&id("kept")));
}

/// A peer that never answers costs no more than those who still wait for it.
#[test]
fn messages_that_nobody_waits_for_are_forgotten() {
    let (mut mailbox, mut last) = (Mailbox::default(), 0);
    let mut kept = Vec::new();
    for number in 0..10_000 {
        let (told, fate) = oneshot::channel();
        mailbox.push(Outgoing { body: Bytes::new(), wants_ack: true, told });
        mailbox.take(1, &mut last);
        if number % 1_000 == 0 {
            kept.push(fate);
        }
    }
    assert!(mailbox.unanswered() <= 128, "{}", mailbox.unanswered());
    assert_eq!(mailbox.lose(1).iter().filter(|told| !told.is_canceled()).count(), kept.len());
}
