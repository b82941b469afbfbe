//! The answering socket.

use std::{future::poll_fn, sync::Arc, task::Poll};

use bytes::Bytes;

use super::{Rep, Replier, Request};
use crate::{
    runtime::Runtime,
    sp::{
        error::RecvError,
        options::{CallOptions, Options},
        socket::{Handle, socket_methods},
    },
    transport::Transports,
};

/// The answering end of request/reply. Cheap to clone; all clones are the same socket.
///
/// Any number of tasks may receive at once, and requests may be answered in any order: each comes
/// with a [`Replier`] of its own. A pipe is not read while a request from it waits to be received.
///
/// ```no_run
/// # async fn serve(server: trunkline::sp::RepSocket) -> Result<(), Box<dyn std::error::Error>> {
/// loop {
///     let (request, replier) = server.recv().await?;
///     replier.send(request).await?; // an echo
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct RepSocket {
    handle: Arc<Handle<Rep>>,
}

impl RepSocket {
    /// A socket without connections. Its tasks run on `runtime`, and its addresses are those that
    /// `transports` knows.
    #[must_use]
    pub fn new(runtime: Runtime, transports: Transports, options: Options) -> Self {
        Self { handle: Handle::new(Rep::default(), runtime, transports, options) }
    }

    /// Waits for the next request, at most for the receive timeout; it comes with the means to
    /// answer it.
    ///
    /// # Errors
    ///
    /// [`RecvError::TimedOut`] or [`RecvError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn recv(&self) -> Result<(Bytes, Replier), RecvError> {
        recv(&self.handle, None).await
    }

    /// The next request, if one is waiting.
    ///
    /// # Errors
    ///
    /// [`RecvError::WouldBlock`] or [`RecvError::Closed`].
    pub fn try_recv(&self) -> Result<(Bytes, Replier), RecvError> {
        try_recv(&self.handle, None)
    }

    /// Receives and replies with options apart from those of the socket. They begin as the socket's
    /// are now; [`RepContext::configure`] changes them.
    #[must_use]
    pub fn context(&self) -> RepContext {
        RepContext { options: self.options().call(), handle: self.handle.clone() }
    }
}

socket_methods!(RepSocket, Rep);

/// Receives on a [`RepSocket`] with options of its own.
#[derive(Clone, Debug)]
pub struct RepContext {
    handle: Arc<Handle<Rep>>,
    options: CallOptions,
}

impl RepContext {
    /// Changes the options. Of them only `recv_timeout`, `send_timeout` and `best_effort` have a
    /// meaning here.
    pub fn configure(&mut self, options: &Options) {
        self.options = options.call();
    }

    /// See [`RepSocket::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn recv(&self) -> Result<(Bytes, Replier), RecvError> {
        recv(&self.handle, Some(self.options)).await
    }

    /// See [`RepSocket::try_recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv(&self) -> Result<(Bytes, Replier), RecvError> {
        try_recv(&self.handle, Some(self.options))
    }
}

async fn recv(
    handle: &Handle<Rep>,
    options: Option<CallOptions>,
) -> Result<(Bytes, Replier), RecvError> {
    let mut place = Place { handle, key: None };
    let mut begun = None;
    let received = poll_fn(|cx| {
        handle.shared.with(|rep, base| {
            let options = options.unwrap_or_else(|| base.options.call());
            let until = *begun.get_or_insert_with(|| options.recv_timeout.map(|it| base.now + it));
            let polled = rep.poll_recv(base, &mut place.key, until, Some(cx));
            polled.map_ok(|request| (request, options))
        })
    });
    let (request, options): (Request, _) = received.await?;
    Ok(Replier::new(handle.shared.clone(), request, options))
}

fn try_recv(
    handle: &Handle<Rep>,
    options: Option<CallOptions>,
) -> Result<(Bytes, Replier), RecvError> {
    let (request, options) = handle.shared.with(|rep, base| {
        let options = options.unwrap_or_else(|| base.options.call());
        match rep.poll_recv(base, &mut None, None, None) {
            Poll::Ready(received) => received.map(|request| (request, options)),
            Poll::Pending => Err(RecvError::WouldBlock),
        }
    })?;
    Ok(Replier::new(handle.shared.clone(), request, options))
}

/// A place in the line of receivers.
struct Place<'a> {
    handle: &'a Handle<Rep>,
    key: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            let key = self.key.take();
            self.handle.shared.with(|rep, base| rep.end_recv(base, key));
        }
    }
}
