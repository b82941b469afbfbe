//! Streams of shared sessions as connections: many of them over one TCP connection.

use std::{collections::HashMap, fmt, io, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    future::{Either, select},
    stream::SelectAll,
};

use super::{Acceptor, Address, Attempt, Connection, Transport};
use crate::{
    config::Config,
    runtime::Runtime,
    session::{Dispatcher, Driver, Protocol, Session, Streams},
    stream::Stream,
    sync::Mutex,
};

/// Connecting opens a stream of the one session with that remote, listening accepts the streams of
/// every session that comes in. Sessions are shared (`spec.md §10`), and these streams say that
/// they speak SP.
///
/// A session that ended is dialled anew by the next connection. Streams of other protocols go
/// beside: open them on [`session`](Self::session), serve them with [`on_accept`](Self::on_accept).
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # fn main() {
/// # let tokio = tokio::runtime::Runtime::new().unwrap();
/// # let _entered = tokio.enter();
/// use trunkline::transport::{Mux, Tcp, Transports};
///
/// let mux = Mux::new("tcp", Tcp, trunkline::tokio::runtime());
/// let transports = Transports::default().with("mux+tcp", mux);
/// assert!(transports.find("mux+tcp").is_some());
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Mux {
    scheme: Arc<str>,
    below: Arc<dyn Transport>,
    runtime: Runtime,
    config: Config,
    max_sessions: usize,
    queue: usize,
    on_accept: Option<OnAccept>,
    remotes: Arc<Mutex<HashMap<String, Arc<Remote>>>>,
}

type OnAccept = Arc<dyn Fn(&Session, &mut Dispatcher) + Send + Sync>;

/// The session with one remote; locked while it is dialled, so that there is one and no more.
type Remote = futures::lock::Mutex<Option<Session>>;

impl Mux {
    /// Sessions over another transport, whose addresses have `scheme`.
    pub fn new(scheme: &str, below: impl Transport, runtime: Runtime) -> Self {
        Self {
            scheme: scheme.into(),
            below: Arc::new(below),
            runtime,
            config: Config::default(),
            max_sessions: 1_024,
            queue: 256,
            on_accept: None,
            remotes: Arc::default(),
        }
    }

    /// The configuration of the sessions.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// How many sessions a listener keeps at once, default 1,024. A connection beyond is closed.
    #[must_use]
    pub fn max_sessions(self, max_sessions: usize) -> Self {
        Self { max_sessions, ..self }
    }

    /// How many streams of one session may wait to be accepted, default 256. One more is refused.
    #[must_use]
    pub fn queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// Called with every session that comes in: here other protocols can be served.
    #[must_use]
    pub fn on_accept(
        self,
        serve: impl Fn(&Session, &mut Dispatcher) + Send + Sync + 'static,
    ) -> Self {
        Self { on_accept: Some(Arc::new(serve)), ..self }
    }

    /// The session with `remote` (the rest of an address) that connections share; dialled if there
    /// is none. It lasts until it ends or this transport is gone.
    ///
    /// # Errors
    ///
    /// Those of connecting.
    pub async fn session(&self, remote: &str) -> io::Result<Session> {
        let known = self.remote(remote);
        let mut live = known.lock().await;
        if let Some(session) = live.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let below = Address::new(&*self.scheme, remote);
        let connection = self.below.connect(&below).await?;
        let (session, driver) = Session::client(connection.io, self.clocked());
        drive(&self.runtime, driver);
        *live = Some(session.clone());
        Ok(session)
    }

    /// The session takes no more streams: the next one is another.
    async fn forget(&self, remote: &str, session: &Session) {
        self.remote(remote).lock().await.take_if(|live| live.is(session));
    }

    fn remote(&self, name: &str) -> Arc<Remote> {
        let mut remotes = self.remotes.lock();
        if let Some(remote) = remotes.get(name) {
            return remote.clone();
        }
        // Those that ended and that nobody dials need no place.
        remotes.retain(|_, remote| {
            let live = remote.try_lock();
            live.is_none_or(|live| live.as_ref().is_some_and(|session| !session.is_closed()))
        });
        remotes.entry(name.to_owned()).or_default().clone()
    }

    /// Sessions live on the clock of those who use them, unless they were given one.
    fn clocked(&self) -> Config {
        let mut config = self.config.clone();
        if !config.timer_chosen {
            config.timer = Some(self.runtime.clock().clone());
        }
        config
    }

    async fn open(&self, remote: &str) -> io::Result<Stream> {
        let session = self.session(remote).await?;
        let opened = Dispatcher::open(&session, Protocol::SP).await;
        if opened.is_err() {
            self.forget(remote, &session).await;
        }
        opened
    }
}

impl Transport for Mux {
    fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection> {
        Box::pin(async move {
            let stream = match self.open(to.rest()).await {
                Ok(stream) => stream,
                // The session may have ended this moment: once more, on a new one.
                Err(_) => self.open(to.rest()).await?,
            };
            Ok(Connection::new(stream, "", to.rest()))
        })
    }

    fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
        Box::pin(async move {
            let below = self.below.listen(&Address::new(&*self.scheme, on.rest())).await?;
            let (mux, scheme) = (self.clone(), on.scheme().to_owned());
            let listening = Listening { mux, scheme, below, sessions: SelectAll::new() };
            Ok(Box::new(listening) as Box<dyn Acceptor>)
        })
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

struct Listening {
    mux: Mux,
    scheme: String,
    below: Box<dyn Acceptor>,
    sessions: SelectAll<Incoming>,
}

/// The SP streams of one session, as connections that name its ends. It keeps the session: without
/// handles it would refuse streams.
type Incoming = futures::stream::Map<Streams, Box<dyn FnMut(Stream) -> Connection + Send>>;

impl Listening {
    fn add(&mut self, connection: Connection) {
        if self.sessions.len() >= self.mux.max_sessions {
            log::debug!("too many sessions: {connection:?} is closed");
            return;
        }
        let Connection { io, local, remote, .. } = connection;
        let (session, driver) = Session::server(io, self.mux.clocked());
        drive(&self.mux.runtime, driver);
        let mut dispatcher = Dispatcher::new(session.clone());
        let Ok(streams) = dispatcher.serve(Protocol::SP, self.mux.queue) else { return };
        if let Some(serve) = &self.mux.on_accept {
            serve(&session, &mut dispatcher);
        }
        self.mux.runtime.spawn(dispatcher.run());
        self.sessions.push(
            streams.map(Box::new(move |stream| {
                Connection::new(stream, local.clone(), remote.clone())
            })),
        );
    }
}

impl Acceptor for Listening {
    fn accept(&mut self) -> Attempt<'_, Connection> {
        Box::pin(async move {
            loop {
                let next = match self.sessions.is_empty() {
                    true => futures::future::pending().left_future(),
                    false => self.sessions.next().right_future(),
                };
                let accepted = match select(next, self.below.accept()).await {
                    Either::Left((Some(connection), _)) => return Ok(connection),
                    // The last session is gone.
                    Either::Left((None, _)) => continue,
                    Either::Right((accepted, _)) => accepted?,
                };
                self.add(accepted);
            }
        })
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::new(&*self.scheme, self.below.local_addr()?.rest()))
    }
}

fn drive(runtime: &Runtime, driver: Driver) {
    runtime.spawn(async move {
        if let Err(error) = driver.await {
            log::debug!("a shared session ended: {error}");
        }
    });
}
