//! TCP, on tokio.

use std::{io, net::SocketAddr};

use futures::FutureExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{
    Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Settings, Transport,
};
use crate::tokio::Compat;

/// `tcp://host:port`. Needs a tokio runtime with its IO enabled.
///
/// The host may be a name, an IPv4 address or an IPv6 address in brackets. `*`, or no host at all,
/// listens on every IPv4 address of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        check(address.rest())?;
        let (address, settings) = (address.clone(), settings.clone());
        Ok(Box::new(Dial { address, settings }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        let (address, settings) = (address.clone(), settings.clone());
        async move {
            check(address.rest())?;
            let host = match address.rest().strip_prefix('*').unwrap_or_else(|| address.rest()) {
                port if port.starts_with(':') => format!("0.0.0.0{port}"),
                host => host.to_owned(),
            };
            let listener = each(&host, |addr| {
                let listener = socket(addr, &settings).and_then(|socket| {
                    socket.set_reuseaddr(cfg!(unix))?;
                    socket.bind(addr)?;
                    socket.listen(BACKLOG)
                });
                std::future::ready(listener)
            })
            .await?;
            let acceptor = Listen { listener, scheme: address.scheme().to_owned(), settings };
            Ok(Box::new(acceptor) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

/// What the kernel may hold before it is accepted; it has a limit of its own besides.
const BACKLOG: u32 = 1_024;

/// The syntax only: names are resolved when it comes to it.
fn check(rest: &str) -> io::Result<()> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "an address is HOST:PORT");
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let named = !host.contains(|c: char| c == ':' || c == '/' || c.is_whitespace());
    if bracketed || named { Ok(()) } else { Err(wrong()) }
}

/// Tries each address of a host in turn.
async fn each<T, F>(host: &str, mut attempt: impl FnMut(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for addr in lookup_host(host).await? {
        match attempt(addr).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn socket(addr: SocketAddr, settings: &Settings) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A connection inherits this from its listener.
    socket.set_keepalive(settings.keep_alive)?;
    Ok(socket)
}

struct Dial {
    address: Address,
    settings: Settings,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let (address, settings) = (self.address.clone(), self.settings.clone());
        async move {
            let connect = |addr| {
                let socket = socket(addr, &settings);
                async move { socket?.connect(addr).await }
            };
            let stream = each(address.rest(), connect).await?;
            connection(stream, address.scheme(), &settings)
        }
        .boxed()
    }
}

struct Listen {
    listener: TcpListener,
    scheme: String,
    settings: Settings,
}

impl Acceptor for Listen {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            let (stream, _) = self.listener.accept().await?;
            connection(stream, &self.scheme, &self.settings)
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        self.listener.local_addr().ok().map(|addr| Address::new(&self.scheme, addr))
    }
}

fn connection(stream: TcpStream, scheme: &str, settings: &Settings) -> io::Result<Connection> {
    stream.set_nodelay(settings.no_delay)?;
    let address = |addr: io::Result<SocketAddr>| addr.ok().map(|addr| Address::new(scheme, addr));
    let (local, remote) = (address(stream.local_addr()), address(stream.peer_addr()));
    Ok(Connection::new(Compat::new(stream)).local(local).remote(remote))
}
