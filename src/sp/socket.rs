//! What all sockets have in common.

use std::{fmt, future::poll_fn, sync::Arc};

use super::{
    dialer::Dialer,
    error::{DialError, EndpointError, ListenError},
    events::PipeEvents,
    listener::Listener,
    options::Options,
    pattern::Pattern,
    pipe::Pipe,
    shared::Shared,
    stats::Stats,
};
use crate::{runtime::Runtime, transport::Transports};

/// Held by everything through which a user reaches a socket: when the last is dropped, the socket
/// closes.
pub(crate) struct Handle<P: Pattern> {
    pub(crate) shared: Arc<Shared<P>>,
}

impl<P: Pattern> Handle<P> {
    pub(crate) fn new(
        pattern: P,
        runtime: Runtime,
        transports: Transports,
        options: Options,
    ) -> Arc<Self> {
        Arc::new(Self { shared: Shared::new(pattern, runtime, transports, options) })
    }

    pub(crate) async fn dial(&self, address: &str) -> Result<Dialer, DialError> {
        let dialer = self.dialer(address, self.options())?;
        dialer.dial().await?;
        Ok(dialer)
    }

    pub(crate) async fn listen(&self, address: &str) -> Result<Listener, ListenError> {
        let listener = self.listener(address, self.options())?;
        listener.listen().await?;
        Ok(listener)
    }

    pub(crate) fn dialer(&self, address: &str, options: Options) -> Result<Dialer, EndpointError> {
        Dialer::new(self.shared.clone(), address, options)
    }

    pub(crate) fn listener(
        &self,
        address: &str,
        options: Options,
    ) -> Result<Listener, EndpointError> {
        Listener::new(self.shared.clone(), address, options)
    }

    pub(crate) fn events(&self) -> PipeEvents {
        self.shared.subscribe()
    }

    pub(crate) fn pipes(&self) -> Vec<Pipe> {
        self.shared.with(|_, base| {
            let attached = base.pipes.iter().filter(|entry| entry.attached);
            attached.map(|entry| entry.pipe.clone()).collect()
        })
    }

    pub(crate) fn options(&self) -> Options {
        self.shared.with(|_, base| base.options.clone())
    }

    pub(crate) fn configure(&self, options: Options) {
        let old = self.shared.with(|_, base| std::mem::replace(&mut base.options, options));
        drop(old);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.shared.with(|_, base| Stats { pipes: base.pipes.attached(), ..base.stats })
    }

    pub(crate) async fn close(&self) {
        self.shared.start_close();
        poll_fn(|cx| self.shared.poll_closed(cx)).await;
    }
}

impl<P: Pattern> Drop for Handle<P> {
    fn drop(&mut self) {
        self.shared.start_close();
    }
}

impl<P: Pattern> fmt::Debug for Handle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// The methods that all sockets have.
macro_rules! socket_methods {
    ($name:ident, $pattern:ty) => {
        impl $name {
            /// Connects to an address, and again whenever the connection is lost.
            ///
            /// # Errors
            ///
            /// [`DialError`](crate::sp::DialError) if the first attempt fails; no other is made then.
            /// A [`dialer`](Self::dialer) can keep trying in the background.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future gives the dial up.
            pub async fn dial(
                &self,
                address: &str,
            ) -> Result<crate::sp::Dialer, crate::sp::DialError> {
                self.handle.dial(address).await
            }

            /// Listens on an address.
            ///
            /// # Errors
            ///
            /// [`ListenError`](crate::sp::ListenError) if that is not possible.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future gives the address up.
            pub async fn listen(
                &self,
                address: &str,
            ) -> Result<crate::sp::Listener, crate::sp::ListenError> {
                self.handle.listen(address).await
            }

            /// Makes a dialer with options of its own, which does nothing yet.
            ///
            /// # Errors
            ///
            /// [`EndpointError`](crate::sp::EndpointError) if the address cannot be used.
            pub fn dialer(
                &self,
                address: &str,
                options: crate::sp::Options,
            ) -> Result<crate::sp::Dialer, crate::sp::EndpointError> {
                self.handle.dialer(address, options)
            }

            /// Makes a listener with options of its own, which does nothing yet.
            ///
            /// # Errors
            ///
            /// [`EndpointError`](crate::sp::EndpointError) if the address cannot be used.
            pub fn listener(
                &self,
                address: &str,
                options: crate::sp::Options,
            ) -> Result<crate::sp::Listener, crate::sp::EndpointError> {
                self.handle.listener(address, options)
            }

            /// Subscribes to what happens to the socket's pipes from now on.
            pub fn events(&self) -> crate::sp::PipeEvents {
                self.handle.events()
            }

            /// The pipes that are in use now.
            #[must_use]
            pub fn pipes(&self) -> Vec<crate::sp::Pipe> {
                self.handle.pipes()
            }

            /// The options that new dialers, listeners and calls take over.
            #[must_use]
            pub fn options(&self) -> crate::sp::Options {
                self.handle.options()
            }

            /// Changes the options that new dialers, listeners and calls take over. Those that
            /// exist keep theirs; nothing that is queued is lost.
            pub fn configure(&self, options: crate::sp::Options) {
                self.handle.configure(options);
            }

            /// The counters of the socket.
            #[must_use]
            pub fn stats(&self) -> crate::sp::Stats {
                self.handle.stats()
            }

            /// Which protocol the socket speaks.
            #[must_use]
            pub const fn info(&self) -> crate::sp::Info {
                <$pattern as crate::sp::pattern::Pattern>::INFO
            }

            /// Closes the socket. Calls that wait, and all later ones, fail with `Closed`; what was
            /// handed to pipes has the `linger` time to be sent. A second call waits for the same
            /// end.
            ///
            /// Dropping the last handle closes the socket too, in the background.
            ///
            /// # Cancel safety
            ///
            /// Once this was polled the socket closes, even if the future is dropped.
            pub async fn close(&self) {
                self.handle.close().await;
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.handle, f)
            }
        }
    };
}

pub(crate) use socket_methods;
