//! What a store keeps under its lock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use futures::{
    channel::oneshot,
    future::{BoxFuture, Shared, WeakShared},
};

use super::{
    ConnectError, Message, PeerEvent, PeerId, PeerInfo, SendError,
    locked::After,
    mailbox::{Batch, Mailbox},
    parting::Partings,
    table::{Entered, Facts, Table},
};
use crate::{
    Session,
    queue::Feed,
    sync::Mutex,
    transport::{Address, Connection},
};

/// What the lock protects.
pub(super) struct State {
    pub(super) table: Table<Arc<Live>>,
    pub(super) mailboxes: HashMap<PeerId, Mailbox>,
    mailboxes_made: u64,
    /// Numbers the messages that want an ack.
    pub(super) last_number: u64,
    pub(super) known: HashMap<PeerId, Known>,
    pub(super) dials: HashMap<Target, WeakShared<Dial>>,
    /// Dials begun so far.
    pub(super) begun: u64,
    pub(super) handshakes: usize,
    /// Sessions that have left the table and are not over yet.
    pub(super) partings: Partings,
    /// Who waits for a peer to come.
    pub(super) arrivals: HashMap<PeerId, BTreeMap<u64, Waker>>,
    pub(super) arrivals_made: u64,
    pub(super) subscribers: Vec<(Feed<Message>, Arc<Filter>)>,
    pub(super) events: Vec<Feed<PeerEvent>>,
    /// Where the streams of sockets go, and how many may wait.
    pub(super) sockets: Option<(Feed<Connection>, usize)>,
    /// Gone once the store shuts down.
    pub(super) open: Option<oneshot::Sender<()>>,
    /// Resolves when the shutdown is done.
    pub(super) ended: Option<Shared<oneshot::Receiver<()>>>,
    /// What is to happen once the lock is free.
    pub(super) after: After,
}

/// A session after its handshake.
pub(super) struct Live {
    pub(super) session: Session,
    pub(super) info: PeerInfo,
    /// Which life of the peer this is.
    pub(super) incarnation: u64,
    /// Where we dialled.
    pub(super) address: Option<Address>,
    /// What it still writes after it has left the table, before it is closed.
    pub(super) last_words: Mutex<Option<Batch>>,
}

/// What is remembered of a peer between sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Where it was last found, and where it was before.
    pub(super) addresses: Vec<Address>,
    pub(super) identity: Option<Bytes>,
    /// Whether it is dialled again when it is lost.
    pub(super) keep: bool,
    /// Whether there is a task that does it.
    pub(super) dialled_again: bool,
}

/// What is dialled: an address, and who should be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) expected: Option<PeerId>,
}

pub(super) type Dial = BoxFuture<'static, Result<PeerId, ConnectError>>;

/// Which messages a subscriber wants.
pub(super) type Filter = dyn Fn(&Message) -> bool + Send + Sync;

impl Known {
    pub(super) fn found_at(&mut self, address: Address) {
        self.addresses.retain(|it| *it != address);
        self.addresses.insert(0, address);
        self.addresses.truncate(MAX_ADDRESSES);
    }
}

impl State {
    pub(super) fn new(me: PeerId, sessions_per_peer: usize, open: oneshot::Sender<()>) -> Self {
        Self {
            table: Table::new(me, sessions_per_peer),
            mailboxes: HashMap::new(),
            known: HashMap::new(),
            dials: HashMap::new(),
            mailboxes_made: 0,
            last_number: 0,
            begun: 0,
            handshakes: 0,
            partings: Partings::default(),
            arrivals: HashMap::new(),
            arrivals_made: 0,
            subscribers: Vec::new(),
            events: Vec::new(),
            sockets: None,
            open: Some(open),
            ended: None,
            after: After::default(),
        }
    }

    /// What is remembered of a peer. Those without a session make room for others: first those
    /// who came by themselves, and never those that are to be dialled again.
    pub(super) fn remember(&mut self, id: &PeerId, max_peers: usize) -> &mut Known {
        let most = max_peers.saturating_mul(REMEMBERED);
        if !self.known.contains_key(id) && self.known.len() >= most {
            let table = &self.table;
            let strangers = self.known.iter();
            let strangers = strangers.filter(|(id, it)| !it.keep && table.get(id).is_none());
            let first = strangers.min_by_key(|(_, it)| !it.addresses.is_empty());
            if let Some(id) = first.map(|(id, _)| id.clone()) {
                self.known.remove(&id);
            }
        }
        self.known.entry(id.clone()).or_default()
    }

    /// Puts a session into the table, and tells whom that concerns. Its number if it has a place,
    /// and those that have none any more.
    pub(super) fn enter(
        &mut self,
        live: &Arc<Live>,
        facts: Facts,
    ) -> (Option<u64>, Vec<Arc<Live>>) {
        let id = &live.info.id;
        let was_there = self.table.get(id).is_some();
        let before = self.table.incarnation(id);
        let Entered { generation, losers } = self.table.enter(id, facts, live.clone());
        if before != self.table.incarnation(id)
            && let Some(mailbox) = self.mailboxes.get_mut(id)
        {
            mailbox.owe_nothing();
        }
        self.wake_sessions(id);
        self.wake_arrivals(id);
        let info = live.info.clone();
        match generation {
            Some(_) if !was_there => self.tell(&PeerEvent::Connected(info)),
            Some(_) if !losers.is_empty() => self.tell(&PeerEvent::Replaced(info)),
            _ => {}
        }
        (generation, losers)
    }

    /// What a session that is gone has written may not have arrived.
    pub(super) fn lose(&mut self, id: &PeerId, generation: u64) {
        let mailbox = self.mailboxes.get_mut(id);
        for lost in mailbox.map(|mailbox| mailbox.lose(generation)).into_iter().flatten() {
            self.after.answer(lost, Err(SendError::Lost));
        }
    }

    /// Nobody will carry what waits in this mailbox, or for a place in it.
    pub(super) fn give_up(&mut self, mut mailbox: Mailbox) {
        self.after.wake(mailbox.room.take());
        self.after.give_up(mailbox);
    }

    /// Tells everyone who listens, in the order in which things happen.
    pub(super) fn tell(&mut self, event: &PeerEvent) {
        self.events.retain(|feed| !feed.is_over());
        self.after.tell(self.events.iter().map(|feed| feed.put(event.clone())));
    }

    /// The messages to a peer with a session.
    pub(super) fn mailbox(&mut self, id: &PeerId) -> &mut Mailbox {
        let made = &mut self.mailboxes_made;
        self.mailboxes.entry(id.clone()).or_insert_with(|| {
            *made += 1;
            Mailbox::new(*made)
        })
    }

    /// Wakes those who wait for this peer.
    pub(super) fn wake_arrivals(&mut self, id: &PeerId) {
        let waiting = self.arrivals.remove(id);
        self.after.wake(waiting.into_iter().flat_map(BTreeMap::into_values));
    }

    /// Where to dial a peer that was lost, if it is to be dialled and no task does that yet.
    pub(super) fn wants_again(&mut self, id: &PeerId) -> Option<Address> {
        let known = self.known.get_mut(id)?;
        if self.open.is_none() || !known.keep || known.dialled_again {
            return None;
        }
        let address = known.addresses.first().cloned()?;
        known.dialled_again = true;
        Some(address)
    }

    /// Wakes the tasks of a peer's sessions.
    pub(super) fn wake_sessions(&mut self, id: &PeerId) {
        if let Some(mailbox) = self.mailboxes.get_mut(id) {
            self.after.wake(mailbox.sleeping.drain().map(|(_, waker)| waker));
        }
    }
}

/// Addresses remembered of one peer.
const MAX_ADDRESSES: usize = 4;

/// How many peers are remembered for each that may have a session.
const REMEMBERED: usize = 4;
