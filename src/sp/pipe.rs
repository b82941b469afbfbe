//! A connection of a socket, as its user sees it.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::options::Options;
use crate::transport::Address;

/// One connection of a socket after its handshake. Cheap to clone. Holding it does not keep the
/// connection open.
#[derive(Clone)]
pub struct Pipe {
    inner: Arc<Inner>,
}

struct Inner {
    id: u32,
    address: Address,
    origin: Origin,
    local: Option<Address>,
    remote: Option<Address>,
    options: Options,
    owner: Weak<dyn Owner>,
}

/// Which dialer or listener made a pipe, by its [`Dialer::id`](super::Dialer::id) or
/// [`Listener::id`](super::Listener::id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was dialled.
    Dialer(u64),
    /// It was accepted.
    Listener(u64),
}

/// The socket behind a pipe.
pub(crate) trait Owner: Send + Sync {
    fn close_pipe(&self, pipe: &Pipe);
}

impl Pipe {
    pub(crate) fn new(
        id: u32,
        (address, origin): (Address, Origin),
        (local, remote): (Option<Address>, Option<Address>),
        options: Options,
        owner: Weak<dyn Owner>,
    ) -> Self {
        Self { inner: Arc::new(Inner { id, address, origin, local, remote, options, owner }) }
    }

    /// Its number: at least 1, below 2^31, and that of no other open pipe of the socket.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id
    }

    /// The address that its dialer dials or its listener listens on.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Its dialer or listener.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// The address of this end, if the transport knows it.
    #[must_use]
    pub fn local_addr(&self) -> Option<&Address> {
        self.inner.local.as_ref()
    }

    /// The address of the other end, if the transport knows it.
    #[must_use]
    pub fn remote_addr(&self) -> Option<&Address> {
        self.inner.remote.as_ref()
    }

    /// The options it was made with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Closes the pipe. If it was dialled, its dialer dials again, after the wait that
    /// [`Dialer`](super::Dialer) tells of.
    pub fn close(&self) {
        if let Some(owner) = self.inner.owner.upgrade() {
            owner.close_pipe(self);
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("id", &self.inner.id)
            .field("address", &self.inner.address)
            .field("origin", &self.inner.origin)
            .field("remote", &self.inner.remote)
            .finish_non_exhaustive()
    }
}
