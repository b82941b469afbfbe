//! `tcp://HOST:PORT`, on tokio. Small messages go out at once (`TCP_NODELAY`).

use std::io;

use tokio::net::{TcpListener, TcpStream};

use super::{Acceptor, Address, Attempt, Connection, Transport};
use crate::tokio::Compat;

/// TCP. Needs a tokio runtime around it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection> {
        Box::pin(async move { connection(TcpStream::connect(to.rest()).await?) })
    }

    fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
        Box::pin(async move {
            let listener = TcpListener::bind(on.rest()).await?;
            Ok(Box::new(Listening(listener)) as Box<dyn Acceptor>)
        })
    }
}

struct Listening(TcpListener);

impl Acceptor for Listening {
    fn accept(&mut self) -> Attempt<'_, Connection> {
        Box::pin(async move { connection(self.0.accept().await?.0) })
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::new("tcp", self.0.local_addr()?.to_string()))
    }
}

fn connection(tcp: TcpStream) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    let (local, remote) = (tcp.local_addr()?.to_string(), tcp.peer_addr()?.to_string());
    Ok(Connection::new(Compat::new(tcp), local, remote))
}
