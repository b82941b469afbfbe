//! `ipc://PATH`: sockets of the file system, on tokio.

use std::{fs, io, os::unix::fs::FileTypeExt, path::PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::{Acceptor, Address, Attempt, Connection, Transport};
use crate::tokio::Compat;

/// Unix sockets. Needs a tokio runtime around it.
///
/// A socket file that nobody listens on any more is replaced; the file goes with its listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unix;

impl Transport for Unix {
    fn connect<'a>(&'a self, to: &'a Address) -> Attempt<'a, Connection> {
        Box::pin(async move { Ok(connection(UnixStream::connect(to.rest()).await?, to.rest())) })
    }

    fn listen<'a>(&'a self, on: &'a Address) -> Attempt<'a, Box<dyn Acceptor>> {
        Box::pin(async move {
            let path = PathBuf::from(on.rest());
            let listener = match UnixListener::bind(&path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let is_socket =
                        fs::symlink_metadata(&path).is_ok_and(|file| file.file_type().is_socket());
                    if !is_socket || UnixStream::connect(&path).await.is_ok() {
                        return Err(error);
                    }
                    fs::remove_file(&path)?;
                    UnixListener::bind(&path)?
                }
                listener => listener?,
            };
            Ok(Box::new(Listening { listener, path }) as Box<dyn Acceptor>)
        })
    }
}

struct Listening {
    listener: UnixListener,
    path: PathBuf,
}

impl Acceptor for Listening {
    fn accept(&mut self) -> Attempt<'_, Connection> {
        let path = self.path.to_string_lossy().into_owned();
        Box::pin(async move { Ok(connection(self.listener.accept().await?.0, &path)) })
    }

    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::new("ipc", self.path.to_string_lossy()))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.path);
    }
}

fn connection(socket: UnixStream, path: &str) -> Connection {
    let connection = Connection::new(Compat::new(socket), path, path);
    Connection { marks_messages: true, ..connection }
}
