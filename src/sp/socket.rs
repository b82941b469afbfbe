//! What sockets of every pattern can do, written once.

/// Dialing, listening, events, counters, close. The socket has `inner.hub`.
macro_rules! socket_methods {
    ($name:ident, $ours:expr, $theirs:expr) => {
        impl $name {
            /// Connects to an address, and connects again whenever that connection is lost.
            ///
            /// # Errors
            ///
            /// Why the first attempt failed; it may be tried again.
            pub async fn dial(
                &self,
                address: &str,
            ) -> Result<$crate::sp::EndpointId, $crate::sp::SocketError> {
                self.inner.hub.dial(address).await
            }

            /// As [`dial`](Self::dial), but returns at once and tries until it works.
            ///
            /// # Errors
            ///
            /// What is wrong with the address or the socket.
            pub fn dial_background(
                &self,
                address: &str,
            ) -> Result<$crate::sp::EndpointId, $crate::sp::SocketError> {
                self.inner.hub.dial_background(address)
            }

            /// Listens on an address; returns it with the port that was taken.
            ///
            /// # Errors
            ///
            /// Why not: the address is in use, say.
            pub async fn listen(
                &self,
                address: &str,
            ) -> Result<$crate::transport::Address, $crate::sp::SocketError> {
                Ok(self.listen_with_id(address).await?.1)
            }

            /// As [`listen`](Self::listen), with the number to close it by.
            ///
            /// # Errors
            ///
            /// As [`listen`](Self::listen).
            pub async fn listen_with_id(
                &self,
                address: &str,
            ) -> Result<
                ($crate::sp::EndpointId, $crate::transport::Address),
                $crate::sp::SocketError,
            > {
                self.inner.hub.listen(address).await
            }

            /// Ends a dialer together with its pipe, or a listener: pipes that it accepted go
            /// on, handshakes under way are cut short.
            pub fn close_endpoint(&self, endpoint: $crate::sp::EndpointId) {
                self.inner.hub.close_endpoint(endpoint);
            }

            /// What becomes of pipes from now on. Of 256 events that nobody took, further ones
            /// are dropped and counted.
            pub fn events(&self) -> impl futures::Stream<Item = $crate::sp::PipeEvent> + use<> {
                self.inner.hub.with(|_, base| base.events())
            }

            /// What was counted so far.
            pub fn counters(&self) -> $crate::sp::Counters {
                self.inner.hub.counters()
            }

            /// What this socket speaks, and what its peers must.
            pub const fn info(&self) -> ($crate::sp::Protocol, $crate::sp::Protocol) {
                ($ours, $theirs)
            }

            /// Closes the socket for all its clones: no new pipes, whoever waits is told, and
            /// what was sent is written within `linger`. A second call does no harm.
            pub async fn close(&self) {
                self.inner.hub.close().await;
            }
        }
    };
}
