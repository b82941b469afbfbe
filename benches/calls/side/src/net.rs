//! Sockets: every contestant gets the same ones, tuned alike.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{Result, listening};

/// A listener on a free port of the loopback interface, which was announced. What it accepts
/// inherits its options.
pub async fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    tune(&socket)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(1024)?;
    listening(listener.local_addr()?);
    Ok(listener)
}

/// A connection.
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    tune(&socket)?;
    socket.connect(address).await
}

/// The next connection.
pub async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (tcp, _) = listener.accept().await?;
    Ok(tcp)
}

fn tune(socket: &TcpSocket) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // A congestion control that paces (bbr) would pace even loopback. Where cubic is missing, the
    // default serves every contestant alike.
    let _ = SockRef::from(socket).set_tcp_congestion(b"cubic");
    Ok(())
}
