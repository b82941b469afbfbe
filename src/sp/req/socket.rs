//! The asking socket.

use std::sync::Arc;

use bytes::Bytes;

use super::{Req, ReqContext};
use crate::{
    runtime::Runtime,
    sp::{
        error::{ContextError, RecvError, RequestError, SendError, SendMessageError},
        message::Message,
        options::Options,
        socket::{Handle, socket_methods},
    },
    transport::Transports,
};

/// The asking end of request/reply. Cheap to clone; all clones are the same socket.
///
/// Requests go to the peers in turn, and wait while none has room. The socket itself has one
/// request at a time; each [`context`](Self::context) has one more.
///
/// ```
/// # futures::executor::block_on(async {
/// use trunkline::{
///     runtime::Runtime,
///     sp::{Options, RepSocket, ReqSocket},
///     transport::Transports,
/// };
///
/// let runtime = Runtime::new(|task| smol::spawn(task).detach());
/// let transports = Transports::default();
/// let server = RepSocket::new(runtime.clone(), transports.clone(), Options::default());
/// server.listen("memory://greeter").await?;
/// # let serve = {
/// # let server = server.clone();
/// # async move {
/// #     let (request, replier) = server.recv().await.unwrap();
/// #     replier.send([b"hello ", &request[..]].concat()).await.unwrap();
/// # }};
/// # smol::spawn(serve).detach();
///
/// let client = ReqSocket::new(runtime, transports, Options::default());
/// client.dial("memory://greeter").await?;
/// assert_eq!(client.request("world").await?, "hello world");
/// client.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ReqSocket {
    handle: Arc<Handle<Req>>,
    context: Arc<ReqContext>,
}

impl ReqSocket {
    /// A socket without connections. Its tasks run on `runtime`, and its addresses are those that
    /// `transports` knows.
    #[must_use]
    pub fn new(runtime: Runtime, transports: Transports, options: Options) -> Self {
        let handle = Handle::new(Req::new(&options), runtime, transports, options);
        // The first context always has its place.
        let slot = handle.shared.with(|req, base| req.open_context(base)).unwrap_or(0);
        let context = Arc::new(ReqContext::new(handle.clone(), slot));
        Self { handle, context }
    }

    /// Opens a context, for one more request at a time.
    ///
    /// # Errors
    ///
    /// [`ContextError`] if there are `max_contexts` already, or the socket is closed.
    pub fn context(&self) -> Result<ReqContext, ContextError> {
        let slot = self.handle.shared.with(|req, base| req.open_context(base))?;
        Ok(ReqContext::new(self.handle.clone(), slot))
    }

    /// See [`ReqContext::request`], also for requests that are too long for the peer.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn request(&self, body: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.context.request(body).await
    }

    /// See [`ReqContext::send`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send(&self, body: impl Into<Bytes>) -> Result<(), SendError> {
        self.context.send(body).await
    }

    /// See [`ReqContext::send_message`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send_message(&self, message: Message) -> Result<(), SendMessageError> {
        self.context.send_message(message).await
    }

    /// See [`ReqContext::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, body: impl Into<Bytes>) -> Result<(), SendError> {
        self.context.try_send(body)
    }

    /// See [`ReqContext::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn recv(&self) -> Result<Bytes, RecvError> {
        self.context.recv().await
    }

    /// See [`ReqContext::recv_message`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn recv_message(&self) -> Result<Message, RecvError> {
        self.context.recv_message().await
    }

    /// See [`ReqContext::try_recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv(&self) -> Result<Bytes, RecvError> {
        self.context.try_recv()
    }
}

socket_methods!(ReqSocket, Req);
