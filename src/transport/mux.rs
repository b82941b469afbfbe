//! Streams of shared sessions as connections: many pipes over one TCP connection.

use std::{
    collections::HashMap,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use futures::{
    FutureExt, StreamExt,
    future::{Either, select},
    stream::SelectAll,
};

use super::{
    Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Settings, Transport,
};
use crate::{
    GoAwayCode,
    config::Config,
    session::{Dispatcher, Driver, Protocol, Session, Streams},
    sync::Mutex,
};

/// `mux+tcp://host:port`: connecting opens a stream on the one session with that remote, listening
/// accepts the streams of every session that comes in. The sessions are shared ones
/// (`spec.md §10`), on which the streams of this transport speak SP.
///
/// When a session has ended, the next connection dials a new one. To open streams of other
/// protocols on the same sessions, take the session from [`session`](Self::session); to serve such
/// streams, use [`on_accept`](Self::on_accept):
///
/// ```
/// use futures::StreamExt;
/// use trunkline::{Protocol, transport::{Transports, memory::Memory, mux::Mux}};
///
/// let memory = Memory::default();
/// let mux = Mux::new("memory", memory.clone()).on_accept(|_session, dispatcher| {
///     if let Ok(mut streams) = dispatcher.serve(Protocol::RAW, 16) {
///         smol::spawn(async move { while streams.next().await.is_some() { /* serve it */ } }).detach();
///     }
/// });
/// let transports = Transports::none().with("memory", memory).with("mux+memory", mux);
/// ```
#[derive(Clone)]
pub struct Mux {
    scheme: Arc<str>,
    inner: Arc<dyn Transport>,
    config: Config,
    max_sessions: usize,
    queue: usize,
    on_accept: Option<OnAccept>,
    remotes: Arc<Mutex<HashMap<String, Weak<Remote>>>>,
}

type OnAccept = Arc<dyn Fn(&Session, &mut Dispatcher) + Send + Sync>;

impl Mux {
    /// Sessions over the transport `inner`, whose own addresses have the scheme `inner_scheme`.
    pub fn new(inner_scheme: &str, inner: impl Transport) -> Self {
        Self {
            scheme: inner_scheme.into(),
            inner: Arc::new(inner),
            config: Config::default(),
            max_sessions: 1_024,
            queue: 256,
            on_accept: None,
            remotes: Arc::default(),
        }
    }

    /// The configuration of the sessions. Unless it chooses a timer, they run on the clock of the
    /// socket that uses them.
    #[must_use]
    pub fn config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// How many sessions a listener keeps at once; a connection beyond is closed. Default 1,024.
    #[must_use]
    pub fn max_sessions(self, max_sessions: usize) -> Self {
        Self { max_sessions, ..self }
    }

    /// How many streams of one session may wait to be accepted; one more is refused. At least 1,
    /// default 256.
    #[must_use]
    pub fn queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// Calls `serve` with every session that comes in, so that it can serve other protocols too.
    /// A session where it panics is closed.
    #[must_use]
    pub fn on_accept(
        self,
        serve: impl Fn(&Session, &mut Dispatcher) + Send + Sync + 'static,
    ) -> Self {
        Self { on_accept: Some(Arc::new(serve)), ..self }
    }

    /// The session that connections to the remote at `rest` (an address without its scheme) share.
    /// It is dialled if there is none.
    ///
    /// It is shared only while something connects to the remote, such as the dialer of a socket;
    /// before that, each call dials a session of its own.
    ///
    /// # Errors
    ///
    /// Those of connecting.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the dial; another caller who waits for the same session then
    /// dials instead.
    pub async fn session(&self, rest: &str, settings: &Settings) -> io::Result<Session> {
        let remote = self.remote(rest, settings)?;
        let (session, _) = remote.session().await?;
        Ok(session)
    }

    fn remote(&self, rest: &str, settings: &Settings) -> io::Result<Arc<Remote>> {
        let mut remotes = self.remotes.lock();
        if let Some(remote) = remotes.get(rest).and_then(Weak::upgrade) {
            return Ok(remote);
        }
        let connector = self.inner.connector(&Address::new(&self.scheme, rest), settings)?;
        let remote = Arc::new(Remote {
            connector,
            config: with_clock(&self.config, settings),
            settings: settings.clone(),
            live: futures::lock::Mutex::new(None),
        });
        remotes.retain(|_, remote| remote.strong_count() > 0);
        remotes.insert(rest.to_owned(), Arc::downgrade(&remote));
        Ok(remote)
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Transport for Mux {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        let remote = self.remote(address.rest(), settings)?;
        Ok(Box::new(Dial { remote, scheme: address.scheme().to_owned() }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        let inner = self.inner.bind(&Address::new(&self.scheme, address.rest()), settings);
        let (mux, settings, scheme) = (self.clone(), settings.clone(), address.scheme().to_owned());
        async move {
            let inner = inner.await?;
            let streams = SelectAll::new();
            Ok(Box::new(Listen { mux, settings, scheme, inner, streams }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

/// One remote and the session with it.
struct Remote {
    connector: Box<dyn Connector>,
    config: Config,
    settings: Settings,
    /// Locked while dialling, so that there is one session and no more.
    live: futures::lock::Mutex<Option<(Session, Ends)>>,
}

/// The addresses of a session's ends.
type Ends = (Option<Address>, Option<Address>);

impl Remote {
    async fn session(&self) -> io::Result<(Session, Ends)> {
        let mut live = self.live.lock().await;
        if let Some((session, ends)) = live.as_ref().filter(|(session, _)| !session.is_closed()) {
            return Ok((session.clone(), ends.clone()));
        }
        *live = None;
        let connection = self.connector.connect().await?;
        let ends = (connection.local.clone(), connection.remote.clone());
        let (session, driver) = Session::client(connection.io, self.config.clone());
        drive(&self.settings, driver);
        *live = Some((session.clone(), ends.clone()));
        Ok((session, ends))
    }

    /// The session takes no more streams.
    async fn forget(&self, session: &Session) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(|(known, _)| known.is(session)) {
            *live = None;
        }
    }
}

fn drive(settings: &Settings, driver: Driver) {
    settings.runtime.spawn(driver.map(|ended| {
        if let Err(error) = ended {
            log::debug!("shared session ended: {error}");
        }
    }));
}

/// The sessions live on the clock of those who use them, unless they were given one.
fn with_clock(config: &Config, settings: &Settings) -> Config {
    let mut config = config.clone();
    if !config.timer_chosen {
        config.timer = Some(settings.runtime.clock().clone());
    }
    config
}

struct Dial {
    remote: Arc<Remote>,
    scheme: String,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let (remote, scheme) = (self.remote.clone(), self.scheme.clone());
        async move {
            let (session, (local, peer)) = remote.session().await?;
            let stream = match Dispatcher::open(&session, Protocol::SP).await {
                Ok(stream) => stream,
                Err(error) => {
                    remote.forget(&session).await;
                    return Err(error);
                }
            };
            Ok(connection(stream, &scheme, local, peer))
        }
        .boxed()
    }
}

struct Listen {
    mux: Mux,
    settings: Settings,
    scheme: String,
    inner: Box<dyn Acceptor>,
    streams: SelectAll<Incoming>,
}

/// The SP streams of one session, with the addresses of its ends.
type Incoming = futures::stream::Map<Streams, Box<dyn FnMut(crate::Stream) -> Connection + Send>>;

impl Listen {
    fn add(&mut self, connection: Connection) {
        if self.streams.len() >= self.mux.max_sessions {
            log::debug!("too many sessions: {connection:?} closed");
            return;
        }
        let (local, remote) = (connection.local, connection.remote);
        let config = with_clock(&self.mux.config, &self.settings);
        let (session, driver) = Session::server(connection.io, config);
        drive(&self.settings, driver);
        let mut dispatcher = Dispatcher::new(session.clone());
        let Ok(streams) = dispatcher.serve(Protocol::SP, self.mux.queue) else { return };
        if let Some(serve) = &self.mux.on_accept {
            let serve = AssertUnwindSafe(|| serve(&session, &mut dispatcher));
            // This one is closed, and others come.
            if catch_unwind(serve).is_err() {
                return session.abort(GoAwayCode::INTERNAL_ERROR);
            }
        }
        self.settings.runtime.spawn(dispatcher.run());
        let scheme = self.scheme.clone();
        self.streams.push(streams.map(Box::new(move |stream| {
            self::connection(stream, &scheme, local.clone(), remote.clone())
        })));
    }
}

impl Acceptor for Listen {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            // A session may have a stream ready whenever it is asked: others have their turn first.
            // What fails is asked again below, where there is no stream.
            if let Some(Ok(connection)) = self.inner.accept().now_or_never() {
                self.add(connection);
            }
            loop {
                let next = match self.streams.is_empty() {
                    true => std::future::pending().left_future(),
                    false => self.streams.next().right_future(),
                };
                let connection = match select(next, self.inner.accept()).await {
                    Either::Left((Some(connection), _)) => return Ok(connection),
                    // The last session is gone.
                    Either::Left((None, _)) => continue,
                    Either::Right((accepted, _)) => accepted?,
                };
                self.add(connection);
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        self.inner.local_addr().map(|address| Address::new(&self.scheme, address.rest()))
    }
}

fn connection(
    stream: crate::Stream,
    scheme: &str,
    local: Option<Address>,
    remote: Option<Address>,
) -> Connection {
    let ours = |address: Option<Address>| address.map(|at| Address::new(scheme, at.rest()));
    Connection::new(stream).local(ours(local)).remote(ours(remote))
}
