//! The seam between the core of a socket and its pattern, and the numbers of pipes.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::{
    endpoint::Endpoint,
    error::PipeError,
    link::Link,
    options::Options,
    pattern::{Base, Pattern, Pipes},
    pipe::{Origin, Owner, Pipe},
    protocol::{Info, ProtocolId},
    shared::Shared,
};
use crate::{
    chance::Chance,
    runtime::{ManualTimer, Runtime},
    transport::{Address, Connection, Framing, Transports, memory},
};

struct Nobody;

impl Owner for Nobody {
    fn close_pipe(&self, _: &Pipe) {}
}

fn pipe(id: u32) -> Pipe {
    let owner: Weak<dyn Owner> = Weak::<Nobody>::new();
    let from = (Address::new("memory", "x"), Origin::Dialer(1));
    Pipe::new(id, from, (None, None), Options::default(), owner)
}

#[test]
fn pipe_ids_wrap_past_zero_and_past_those_in_use() {
    // spec.md §13.6
    let mut pipes = Pipes::<()>::new(0x7fff_fffc);
    let first: Vec<_> = (0..3)
        .map(|_| {
            let id = pipes.next_id();
            pipes.insert(pipe(id), Framing::Plain);
            id
        })
        .collect();
    assert_eq!(first, [0x7fff_fffd, 0x7fff_fffe, 0x7fff_ffff]);
    assert_eq!(pipes.next_id(), 1);
    let mut pipes = Pipes::<()>::new(u32::MAX - 2);
    pipes.insert(pipe(0x7fff_fffe), Framing::Plain);
    assert_eq!(pipes.next_id(), 0x7fff_ffff, "in use is passed over");
    pipes.remove(0x7fff_fffe);
    assert_eq!(pipes.len(), 0);
}

#[test]
fn a_pipe_is_not_another_that_has_its_number_now() {
    let mut pipes = Pipes::<()>::new(0);
    let (old, new) = (pipe(5), pipe(5));
    pipes.insert(new.clone(), Framing::Plain);
    assert!(pipes.find(&old).is_none());
    assert!(pipes.find(&new).is_some());
}

/// Notes what it is told, and refuses some.
#[derive(Default)]
struct Probe {
    calls: HashMap<u32, Vec<&'static str>>,
    refuse: bool,
}

impl Pattern for Probe {
    type Pipe = ();
    type Due = ();

    const INFO: Info = Info { own: ProtocolId::PAIR, peer: ProtocolId::PAIR };

    fn add_pipe(&mut self, base: &mut Base<Self>, id: u32) -> bool {
        assert!(base.pipes.get(id).is_some());
        self.calls.entry(id).or_default().push(if self.refuse { "refused" } else { "added" });
        !self.refuse
    }

    fn remove_pipe(&mut self, base: &mut Base<Self>, id: u32, (): ()) {
        assert!(base.pipes.get(id).is_none(), "after the close");
        self.calls.entry(id).or_default().push("removed");
    }

    fn handle_room(&mut self, _: &mut Base<Self>, _: u32) {}

    fn handle_message(&mut self, _: &mut Base<Self>, _: u32, _: Bytes) -> Result<(), Bytes> {
        Ok(())
    }

    fn wants(&self, _: &Base<Self>, _: u32) -> bool {
        true
    }

    fn handle_timeout(&mut self, _: &mut Base<Self>, (): ()) {}

    fn close(&mut self, _: &mut Base<Self>) {}
}

#[test]
fn a_pattern_hears_of_each_pipe_once_when_it_comes_and_once_when_it_goes() {
    let runtime = Runtime::new(|_| {}).timer(Arc::new(ManualTimer::new()));
    let transports = Transports::none();
    let shared = Shared::new(Probe::default(), runtime, transports, Options::default());
    let endpoint = Endpoint::new(1, Address::new("memory", "x"), Options::default());
    let mut chance = Chance::new(Some(5));
    let mut cx = Context::from_waker(Waker::noop());
    let mut live: Vec<(Link<Probe>, memory::Duplex)> = Vec::new();
    for _ in 0..1_000 {
        let refuse = chance.next().is_multiple_of(4);
        shared.with(|probe, _| probe.refuse = refuse);
        let (ours, theirs) = memory::duplex(64);
        match shared.attach(Connection::new(ours), Origin::Listener(1), &endpoint) {
            Ok(link) => live.push((link, theirs)),
            Err(error) => assert_eq!((error, refuse), (PipeError::Rejected, true)),
        }
        if live.is_empty() || chance.next().is_multiple_of(3) {
            continue;
        }
        let (mut link, theirs) = live.swap_remove(chance.next() as usize % live.len());
        if std::pin::Pin::new(&mut link).poll(&mut cx).is_ready() {
            // It was closed together with another.
            continue;
        }
        match chance.next() % 3 {
            // Cut by the peer, closed by the user, or dropped by the runtime.
            0 => drop(theirs),
            1 => shared.close_pipes(Origin::Listener(1)),
            _ => continue,
        }
        assert!(matches!(std::pin::Pin::new(&mut link).poll(&mut cx), Poll::Ready(_)));
    }
    drop(live);
    shared.with(|probe, base| {
        assert_eq!((base.pipes.len(), base.pipes.attached()), (0, 0));
        assert_eq!(probe.calls.len(), 1_000);
        for calls in probe.calls.values() {
            assert!(calls == &["refused"] || calls == &["added", "removed"], "{calls:?}");
        }
    });
}

#[test]
fn an_old_handle_does_not_close_the_pipe_that_has_its_number_now() {
    let runtime = Runtime::new(|_| {}).timer(Arc::new(ManualTimer::new()));
    let shared = Shared::new(Probe::default(), runtime, Transports::none(), Options::default());
    let endpoint = Endpoint::new(1, Address::new("memory", "x"), Options::default());
    let attach = || {
        let connection = Connection::new(memory::duplex(64).0);
        let link = shared.attach(connection, Origin::Listener(1), &endpoint).unwrap();
        let pipe = shared.with(|_, base| base.pipes.iter().next().unwrap().pipe.clone());
        (link, pipe)
    };
    let (link, old) = attach();
    drop(link);
    shared.with(|_, base| base.pipes = Pipes::new(old.id() - 1));
    let (_link, new) = attach();
    assert_eq!(new.id(), old.id());
    let stopped = || shared.with(|_, base| base.pipes.get(new.id()).unwrap().stop);
    old.close();
    assert_eq!(stopped(), None);
    new.close();
    assert_eq!(stopped(), Some(PipeError::Closed));
}
