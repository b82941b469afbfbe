//! The ends of sessions: those that left the table, and are closed in good order.

use std::{collections::HashMap, sync::Arc};

use futures::{
    FutureExt,
    channel::oneshot,
    future::{Shared, join_all},
};

use super::{PeerId, state::Live, store::Inner};
use crate::{GoAwayCode, Session, runtime::within};

/// How many sessions are being closed, and with whom.
#[derive(Debug, Default)]
pub(super) struct Partings {
    all: usize,
    peers: HashMap<PeerId, usize>,
    /// Told when there is none left.
    none_left: Option<oneshot::Sender<()>>,
}

impl Partings {
    pub(super) const fn len(&self) -> usize {
        self.all
    }

    /// Whether there may be one more with this peer.
    fn may_begin(&self, id: &PeerId, most: usize) -> bool {
        self.all < most && self.peers.get(id).is_none_or(|with| *with < MAX_PARTINGS)
    }

    fn begin(&mut self, id: &PeerId) {
        self.all += 1;
        *self.peers.entry(id.clone()).or_default() += 1;
    }

    /// Whoever waits for the last hears of it when what is returned is dropped.
    #[must_use]
    fn end(&mut self, id: &PeerId) -> Option<oneshot::Sender<()>> {
        self.all -= 1;
        match self.peers.get_mut(id) {
            Some(with) if *with > 1 => *with -= 1,
            _ => drop(self.peers.remove(id)),
        }
        self.none_left.take_if(|_| self.all == 0)
    }

    /// Resolves when there is none left.
    fn over(&mut self) -> oneshot::Receiver<()> {
        let (sender, over) = oneshot::channel();
        self.none_left = (self.all > 0).then_some(sender);
        over
    }
}

impl Inner {
    /// Closes a session that has left the table because of its peer. This is done in good order,
    /// unless too many are being closed already, because peers come and go faster than that. Then it
    /// is aborted.
    pub(super) fn part(self: &Arc<Self>, live: &Live) {
        let id = &live.info.id;
        if self.state.with(|state| state.partings.may_begin(id, self.config.max_peers)) {
            drop(self.close_in_background(live));
        } else {
            log::debug!("peer {id}: too many sessions are being closed");
            live.session.abort(GoAwayCode::NORMAL);
        }
    }

    /// What is returned resolves when it is done.
    fn close_in_background(self: &Arc<Self>, live: &Live) -> oneshot::Receiver<()> {
        let (done, parted) = oneshot::channel();
        let id = live.info.id.clone();
        self.state.with(|state| state.partings.begin(&id));
        let (me, session) = (self.clone(), live.session.clone());
        self.runtime.spawn(async move {
            me.close_session(&session).await;
            drop(me.state.with(|state| state.partings.end(&id)));
            drop(done);
        });
        parted
    }

    /// Closes a session in good order, or hard after the close timeout.
    pub(super) async fn close_session(&self, session: &Session) {
        let until = self.runtime.after(self.config.close_timeout);
        if within(session.close(), until, self.runtime.clock()).await.is_none() {
            session.abort(GoAwayCode::NORMAL);
        }
    }

    pub(super) async fn disconnect(self: &Arc<Self>, id: &PeerId) {
        let sessions = self.state.with(|state| {
            if let Some(known) = state.known.get_mut(id) {
                known.keep = false;
            }
            state.table.all(id).map(|(generation, live)| (generation, live.clone())).collect()
        });
        join_all(self.part_all(sessions)).await;
    }

    pub(super) async fn shutdown(self: &Arc<Self>) {
        self.begin_shutdown().await.ok();
    }

    /// The first call begins the shutdown, which goes on whether or not anyone waits for it. What is
    /// returned resolves at its end, for the first call and for every later one.
    fn begin_shutdown(self: &Arc<Self>) -> Shared<oneshot::Receiver<()>> {
        let (done, ended) = oneshot::channel();
        let ended = ended.shared();
        let begun = self.state.with(|state| {
            if let Some(ended) = &state.ended {
                return Err(ended.clone());
            }
            state.ended = Some(ended.clone());
            let sessions = state.table.iter();
            let sessions = sessions.map(|(generation, live)| (generation, live.clone())).collect();
            Ok((state.open.take(), sessions))
        });
        let (open, sessions) = match begun {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        // Everything that is under way hears of it.
        drop(open);
        drop(self.part_all(sessions));
        let me = self.clone();
        self.runtime.spawn(async move {
            let over = me.state.with(|state| state.partings.over());
            over.await.ok();
            let (subscribers, events) = me.state.with(|state| {
                (std::mem::take(&mut state.subscribers), std::mem::take(&mut state.events))
            });
            subscribers.iter().for_each(|(feed, _)| drop(feed.end()));
            events.iter().for_each(|feed| drop(feed.end()));
            drop(done);
        });
        ended
    }

    /// Closes sessions side by side, so that however many do not answer, it takes one close timeout.
    fn part_all(self: &Arc<Self>, sessions: Vec<(u64, Arc<Live>)>) -> Vec<oneshot::Receiver<()>> {
        // The task of a session finishes its stream of messages once the session has left the table.
        // Of those with one peer the best carries the messages, and so it leaves last.
        let ours = sessions.iter().rev().filter(|(number, live)| self.left(live, *number, Ok(())));
        ours.map(|(_, live)| self.close_in_background(live)).collect()
    }
}

/// Sessions with one peer that are closed in good order at a time.
const MAX_PARTINGS: usize = 8;
