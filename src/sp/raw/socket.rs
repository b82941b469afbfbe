//! The raw sockets, by one shell.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Raw, Sending, rep::RawRepCore, req::RawReqCore};
use crate::{
    runtime::Runtime,
    sp::{
        error::{RecvError, SendError, SendMessageError},
        message::Message,
        options::Options,
        socket::{Handle, socket_methods},
    },
    transport::Transports,
};

macro_rules! raw_socket {
    ($(#[$doc:meta])* $name:ident, $core:ty) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            handle: Arc<Handle<$core>>,
        }

        impl $name {
            /// A socket without connections. Its tasks run on `runtime`, and its addresses are
            /// those that `transports` knows.
            #[must_use]
            pub fn new(runtime: Runtime, transports: Transports, options: Options) -> Self {
                Self { handle: Handle::new(<$core>::default(), runtime, transports, options) }
            }

            /// Sends a message: its header, then its body. Waits while the queue is full, at most
            /// for the send timeout. With `best_effort` a message that finds the queue full is
            /// dropped, and counted.
            ///
            /// # Errors
            ///
            /// [`SendMessageError`], which gives the message back.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future while it waits drops the message.
            pub async fn send_message(&self, message: Message) -> Result<(), SendMessageError> {
                send(&self.handle, message).await
            }

            /// Sends a message if the queue has room.
            ///
            /// # Errors
            ///
            /// [`SendMessageError`], which gives the message back, with
            /// [`WouldBlock`](SendError::WouldBlock) if the queue is full.
            pub fn try_send_message(&self, message: Message) -> Result<(), SendMessageError> {
                try_send(&self.handle, message)
            }

            /// Waits for the next message, at most for the receive timeout.
            ///
            /// # Errors
            ///
            /// [`RecvError::TimedOut`] or [`RecvError::Closed`].
            ///
            /// # Cancel safety
            ///
            /// Dropping the future loses no message.
            pub async fn recv_message(&self) -> Result<Message, RecvError> {
                recv(&self.handle).await
            }

            /// The next message, if one is waiting.
            ///
            /// # Errors
            ///
            /// [`RecvError::WouldBlock`] or [`RecvError::Closed`].
            pub fn try_recv_message(&self) -> Result<Message, RecvError> {
                try_recv(&self.handle)
            }
        }

        socket_methods!($name, $core);
    };
}

raw_socket! {
    /// REQ without its rules. A message is sent as it is, once, to any peer that has room.
    /// Everything that comes is received, whether or not it answers a request of this socket.
    ///
    /// The header of a received message holds the words up to and with the request id. A message
    /// without a request id is dropped.
    RawReq, RawReqCore
}

raw_socket! {
    /// REP without its rules. The header of a received message begins with the number of the pipe
    /// it came through; a message is sent to the pipe whose number its header begins with, without
    /// that number. A message for a pipe that is gone is dropped, and counted.
    RawRep, RawRepCore
}

async fn send<P: Raw>(handle: &Handle<P>, mut message: Message) -> Result<(), SendMessageError> {
    let mut place = SendPlace { handle, place: None };
    let mut begun = None;
    let sent = poll_fn(|cx| {
        let started = *begun.get_or_insert_with(|| handle.shared.runtime.now());
        poll_send(handle, &mut message, &mut place.place, started, Some(cx))
    })
    .await;
    sent.map_err(|error| SendMessageError { error, message: std::mem::take(&mut message) })
}

fn try_send<P: Raw>(handle: &Handle<P>, mut message: Message) -> Result<(), SendMessageError> {
    let now = handle.shared.runtime.now();
    let error = match poll_send(handle, &mut message, &mut None, now, None) {
        Poll::Ready(Ok(())) => return Ok(()),
        Poll::Ready(Err(SendError::TimedOut)) | Poll::Pending => SendError::WouldBlock,
        Poll::Ready(Err(error)) => error,
    };
    Err(SendMessageError { error, message })
}

fn poll_send<P: Raw>(
    handle: &Handle<P>,
    message: &mut Message,
    place: &mut Option<(u32, u64)>,
    started: std::time::Instant,
    cx: Option<&mut Context<'_>>,
) -> Poll<Result<(), SendError>> {
    handle.shared.with(|core, base| {
        let options = base.options.call();
        let until = options.send_timeout.map(|timeout: Duration| started + timeout);
        let best_effort = options.best_effort;
        let mut sending = Sending { message, place, until, best_effort };
        core.poll_send(base, &mut sending, cx.as_deref())
    })
}

async fn recv<P: Raw>(handle: &Handle<P>) -> Result<Message, RecvError> {
    let mut place = RecvPlace { handle, key: None };
    let mut begun = None;
    poll_fn(|cx| {
        handle.shared.with(|core, base| {
            let timeout = base.options.recv_timeout();
            let until = *begun.get_or_insert_with(|| timeout.map(|timeout| base.now + timeout));
            let waited = place.key.is_some();
            let polled = core.inbox().poll_recv(base, &mut place.key, until, Some(cx));
            if waited && polled.is_ready() {
                core.sweep(base);
            }
            polled
        })
    })
    .await
}

fn try_recv<P: Raw>(handle: &Handle<P>) -> Result<Message, RecvError> {
    match handle.shared.with(|core, base| core.inbox().poll_recv(base, &mut None, None, None)) {
        Poll::Ready(received) => received,
        Poll::Pending => Err(RecvError::WouldBlock),
    }
}

/// A place in the line of senders.
struct SendPlace<'a, P: Raw> {
    handle: &'a Handle<P>,
    place: Option<(u32, u64)>,
}

impl<P: Raw> Drop for SendPlace<'_, P> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.handle.shared.with(|core, base| core.end_send(base, place));
        }
    }
}

/// A place in the line of receivers.
struct RecvPlace<'a, P: Raw> {
    handle: &'a Handle<P>,
    key: Option<u64>,
}

impl<P: Raw> Drop for RecvPlace<'_, P> {
    fn drop(&mut self) {
        if self.key.is_some() {
            let key = self.key.take();
            self.handle.shared.with(|core, base| {
                core.inbox().end_recv(base, key);
                core.sweep(base);
            });
        }
    }
}
