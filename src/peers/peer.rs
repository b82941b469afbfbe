//! One peer, as its user sees it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, channel::oneshot, future::BoxFuture};

use super::{ConnectError, PeerId, PeerInfo, SendError, mailbox::Outgoing, store::Inner};
use crate::{Session, runtime::within, sync::Mutex};

/// A handle to one peer of a store, whether or not there is a session with it. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
    id: PeerId,
}

/// What happens to a message when the queue of its peer is full, or others wait for a place in it:
/// messages go in the order in which they came, so none is put before those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// It is not sent, fails with [`SendError::Full`], and is counted in
    /// [`PeerStats`](super::PeerStats).
    Drop,
    /// It waits for a place in the queue.
    Wait,
}

impl Peer {
    pub(super) const fn new(inner: Arc<Inner>, id: PeerId) -> Self {
        Self { inner, id }
    }

    /// Its id.
    pub const fn id(&self) -> &PeerId {
        &self.id
    }

    /// What is known of it; `None` while there is no session.
    pub fn info(&self) -> Option<PeerInfo> {
        self.inner.state.with(|state| state.table.get(&self.id).map(|live| live.info.clone()))
    }

    /// The session with it, shared with everyone: open streams on it with
    /// [`Dispatcher::open`](crate::Dispatcher::open). `None` while there is none.
    pub fn session(&self) -> Option<Session> {
        self.inner.state.with(|state| state.table.get(&self.id).map(|live| live.session.clone()))
    }

    /// The session with it, dialled if there is none.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the dial unless someone else waits for it.
    pub async fn connected(&self) -> Result<Session, ConnectError> {
        self.inner.get(&self.id).await?;
        self.session().ok_or(ConnectError::Session(crate::SessionError::Closed))
    }

    /// Sends a message, behind the others that this store sent to the peer. The future that this
    /// returns always completes: with `Ok` once the message was handed to the connection, with an
    /// error if it was not, or if the session broke off meanwhile.
    ///
    /// With [`Policy::Drop`] the message is put into the queue at once, whether or not the future
    /// is polled; with [`Policy::Wait`] it is when the future is polled and there is room.
    ///
    /// # Errors
    ///
    /// The future completes with [`SendError::TooLong`], [`SendError::Full`] (with [`Policy::Drop`]
    /// only), [`SendError::Disconnected`] or [`SendError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a message that is in the queue is sent all the same; one that
    /// waits for a place in it is not.
    pub fn send(&self, body: impl Into<Bytes>, policy: Policy) -> Sending {
        Sending { fate: self.submit(body.into(), policy, false) }
    }

    /// Sends a message and waits until the peer says what became of it.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send); [`SendError::Failed`] if a subscriber of the peer said that
    /// it failed, or none said anything; [`SendError::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send) with [`Policy::Wait`]; an ack that comes later is ignored.
    pub async fn send_with_ack(
        &self,
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        let until = self.inner.runtime.after(timeout);
        let fate = self.submit(body.into(), Policy::Wait, true);
        let clock = self.inner.runtime.clock();
        within(fate, until, clock).await.unwrap_or(Err(SendError::TimedOut))
    }

    /// Closes every session with the peer, and no longer dials it again. What is under way and the
    /// messages in the queue have `close_timeout` to finish. Messages that want an ack or wait for
    /// a place in the queue fail with [`Disconnected`](SendError::Disconnected).
    ///
    /// # Cancel safety
    ///
    /// Once this was polled the sessions close, even if the future is dropped.
    pub async fn disconnect(&self) {
        self.inner.disconnect(&self.id).await;
    }

    fn submit(
        &self,
        body: Bytes,
        policy: Policy,
        wants_ack: bool,
    ) -> BoxFuture<'static, Result<(), SendError>> {
        if body.len() > self.inner.config.max_message {
            return std::future::ready(Err(SendError::TooLong(body.len()))).boxed();
        }
        let (told, fate) = oneshot::channel();
        let outgoing = Outgoing { body, wants_ack, told };
        let (inner, id) = (self.inner.clone(), self.id.clone());
        let fate = async move { fate.await.unwrap_or(Err(SendError::Lost)) };
        match policy {
            Policy::Drop => match inner.enqueue(&id, outgoing) {
                Ok(()) => fate.boxed(),
                Err((error, _)) => {
                    inner.count_dropped(&error);
                    std::future::ready(Err(error)).boxed()
                }
            },
            Policy::Wait => async move {
                inner.enqueue_in_turn(&id, outgoing).await?;
                fate.await
            }
            .boxed(),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What becomes of a message: the future that [`Peer::send`] returns.
#[must_use = "with `Policy::Wait` nothing is sent before this is polled"]
pub struct Sending {
    fate: BoxFuture<'static, Result<(), SendError>>,
}

impl Future for Sending {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.fate.poll_unpin(cx)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// A message from a peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// Who sent it.
    pub from: PeerId,
    /// Its content.
    pub body: Bytes,
    /// The means to tell what became of it, if the sender wants to know.
    pub ack: Option<Ack>,
}

/// Tells the sender of a message what became of it. Only the first answer counts. If every clone is
/// dropped without one, the sender is told that nobody answered.
#[derive(Clone, Debug)]
pub struct Ack {
    owed: Arc<Owed>,
}

#[derive(Debug)]
struct Owed {
    inner: Weak<Inner>,
    to: PeerId,
    /// Which life of the peer asked.
    incarnation: u64,
    number: Mutex<Option<u64>>,
}

impl Ack {
    pub(super) fn new(inner: &Arc<Inner>, to: PeerId, incarnation: u64, number: u64) -> Self {
        let (inner, number) = (Arc::downgrade(inner), Mutex::new(Some(number)));
        Self { owed: Arc::new(Owed { inner, to, incarnation, number }) }
    }

    /// Says that it went well.
    pub fn succeed(self) {
        self.owed.pay(None);
    }

    /// Says that it failed, and why. Words beyond 4,096 bytes are cut off.
    pub fn fail(self, why: impl Into<String>) {
        self.owed.pay(Some(why.into()));
    }
}

impl Owed {
    fn pay(&self, error: Option<String>) {
        let number = self.number.lock().take();
        if let (Some(number), Some(inner)) = (number, self.inner.upgrade()) {
            inner.acknowledge(&self.to, self.incarnation, number, error);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.pay(Some("nobody answered".to_owned()));
    }
}
