//! Unix sockets, on tokio.

use std::{io, path::PathBuf};

use futures::FutureExt;
use tokio::net::{UnixListener, UnixStream};

use super::{
    Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Framing, Settings,
    Transport,
};
use crate::tokio::Compat;

/// `ipc:///path/to/socket`, as nanomsg and nng write it. Needs a tokio runtime with its IO enabled.
///
/// A socket file that nobody listens on any more is replaced. Dropping the listener removes the
/// file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unix;

impl Transport for Unix {
    fn connector(&self, address: &Address, _: &Settings) -> io::Result<Box<dyn Connector>> {
        Ok(Box::new(Dial { address: address.clone() }))
    }

    fn bind(&self, address: &Address, _: &Settings) -> Binding {
        let address = address.clone();
        async move {
            let path = PathBuf::from(address.rest());
            let listener = match UnixListener::bind(&path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    match UnixStream::connect(&path).await {
                        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                            std::fs::remove_file(&path)?;
                            UnixListener::bind(&path)?
                        }
                        _ => return Err(error),
                    }
                }
                listener => listener?,
            };
            Ok(Box::new(Listen { listener, address, path }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

struct Dial {
    address: Address,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let address = self.address.clone();
        async move {
            let stream = UnixStream::connect(address.rest()).await?;
            Ok(connection(stream, address))
        }
        .boxed()
    }
}

struct Listen {
    listener: UnixListener,
    address: Address,
    path: PathBuf,
}

impl Acceptor for Listen {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            let (stream, _) = self.listener.accept().await?;
            Ok(connection(stream, self.address.clone()))
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        Some(self.address.clone())
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("could not remove {}: {error}", self.path.display());
        }
    }
}

fn connection(stream: UnixStream, address: Address) -> Connection {
    Connection::new(Compat::new(stream))
        .local(Some(address.clone()))
        .remote(Some(address))
        .framing(Framing::Local)
}
