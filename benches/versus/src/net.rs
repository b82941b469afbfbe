//! Sockets: every contestant gets the same ones, tuned alike.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Options of a socket that workloads choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuning {
    /// The unsent bytes the kernel may hold (`TCP_NOTSENT_LOWAT`).
    pub notsent_lowat: Option<u32>,
}

/// Where the server is, as the client sees it.
#[derive(Debug)]
pub struct Site {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
    tuning: Tuning,
}

impl Site {
    /// A server that listens on all of `addresses`.
    pub fn new(addresses: Vec<SocketAddr>, tuning: Tuning) -> Self {
        Self { addresses, next: AtomicUsize::new(0), tuning }
    }

    /// A new connection.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4()?;
        tune(SockRef::from(&socket), self.tuning)?;
        socket.connect(self.addresses[turn % self.addresses.len()]).await
    }
}

/// Where the server accepts connections.
#[derive(Debug)]
pub struct Lobby {
    listeners: Vec<TcpListener>,
}

impl Lobby {
    /// Listens on as many ports of the loopback interface as `ports` says.
    ///
    /// A workload that makes a connection per operation would run out of client ports on one.
    pub fn open(ports: usize, tuning: Tuning) -> io::Result<Self> {
        let listeners = (0..ports).map(|_| listen(tuning)).collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    /// The addresses listened on.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        for listener in &self.listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(socket, _)| socket));
            }
        }
        Poll::Pending
    }
}

/// An accepted socket inherits the options of its listener, so tuning costs nothing per connection.
fn listen(tuning: Tuning) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    tune(SockRef::from(&socket), tuning)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)
}

/// Tunes a socket of the relay.
pub fn tune_path(socket: &std::net::TcpStream) -> io::Result<()> {
    tune(SockRef::from(socket), Tuning::default())
}

fn tune(socket: SockRef<'_>, tuning: Tuning) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A congestion control that paces (bbr) would pace even loopback. Where cubic is missing, the default serves
    // every contestant alike.
    let _ = socket.set_tcp_congestion(b"cubic");
    match tuning.notsent_lowat {
        Some(bytes) => socket.set_tcp_notsent_lowat(bytes),
        None => Ok(()),
    }
}

const BACKLOG: u32 = 1024;
