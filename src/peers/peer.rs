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
use crate::{Session, exchange::within, sync::Mutex};

/// A peer: cheap to clone, and good for as long as the store is, with a session or without.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
    id: PeerId,
}

/// What happens to a message where the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// It is not sent: [`SendError::Full`]. Counted in [`PeerStats`](super::PeerStats).
    Drop,
    /// It waits for a place.
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
        self.inner.state.lock().table.get(&self.id).map(|live| live.info.clone())
    }

    /// The session with it, shared with everyone: open streams on it with
    /// [`Dispatcher::open`](crate::Dispatcher::open). `None` while there is none.
    pub fn session(&self) -> Option<Session> {
        self.inner.state.lock().table.get(&self.id).map(|live| live.session.clone())
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

    /// Sends a message, in order with the others of this store to this peer. What is returned
    /// always comes to an end: with `Ok` when the message was handed to the connection, with an
    /// error when it was not, or when the session broke off meanwhile.
    ///
    /// With [`Policy::Drop`] the message takes its place in the queue at once, whether or not what
    /// is returned is awaited; with [`Policy::Wait`] it does when that is polled.
    ///
    /// # Errors
    ///
    /// What is returned resolves with [`SendError::TooLong`], [`SendError::Full`] with
    /// [`Policy::Drop`] only, [`SendError::Disconnected`] or [`SendError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropping what is returned forgets what became of the message. One that has its place in the
    /// queue is sent all the same; one that waits for a place is not.
    pub fn send(&self, body: impl Into<Bytes>, policy: Policy) -> Sending {
        Sending { fate: self.submit(body.into(), policy, false) }
    }

    /// Sends a message and waits until the peer says what became of it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::Failed`] if the peer's program said so, or nobody
    /// there took it; [`SendError::TimedOut`].
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

    /// Closes every session with it, and forgets to dial it again. What is under way and the
    /// messages in the queue have the store's close timeout to finish; those that want an ack or
    /// wait for a place in the queue resolve as [`Disconnected`](SendError::Disconnected).
    ///
    /// # Cancel safety
    ///
    /// The sessions end all the same if the future is dropped.
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

/// What becomes of a message: a future that always comes to an end.
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
    /// What it says.
    pub body: Bytes,
    /// How to tell what became of it, if the sender wants to know.
    pub ack: Option<Ack>,
}

/// Tells the sender of a message what became of it, once. When every clone is dropped without a
/// word, the sender learns that nobody answered.
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

    /// It went well.
    pub fn succeed(self) {
        self.owed.pay(None);
    }

    /// It failed, and why: up to 4,096 bytes of words.
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
