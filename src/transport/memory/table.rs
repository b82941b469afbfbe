//! Listeners by name.

use std::{collections::HashMap, io, sync::Arc};

use futures::{
    FutureExt, SinkExt, StreamExt,
    channel::{mpsc, oneshot},
};

use super::{Duplex, duplex};
use crate::{
    sync::Mutex,
    transport::{
        Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Settings,
        Transport,
    },
};

/// Connections within the process, by name. Clones share one table of names; two values that were
/// made apart know nothing of each other.
///
/// A connection is made when the listener accepts it. Connecting to a name that nobody listens on
/// fails with [`ConnectionRefused`](io::ErrorKind::ConnectionRefused), listening on one that is
/// taken with [`AddrInUse`](io::ErrorKind::AddrInUse).
///
/// ```
/// use trunkline::{runtime::Runtime, transport::{Address, Settings, Transport, memory::Memory}};
/// # smol::block_on(async {
/// let settings = Settings::new(Runtime::new(|task| smol::spawn(task).detach()));
/// let (memory, address) = (Memory::default(), Address::parse("memory://here")?);
/// let mut acceptor = memory.bind(&address, &settings).await?;
/// let connector = memory.connector(&address, &settings)?;
/// let (near, far) = futures::try_join!(connector.connect(), acceptor.accept())?;
/// # drop((near, far));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    names: Arc<Mutex<HashMap<String, mpsc::Sender<Knock>>>>,
    capacity: usize,
}

/// Someone wants to connect.
type Knock = oneshot::Sender<Duplex>;

impl Memory {
    /// A new table of names. Its connections hold up to `capacity` bytes each way.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { names: Arc::default(), capacity }
    }
}

/// 64 KiB each way.
impl Default for Memory {
    fn default() -> Self {
        Self::new(64 << 10)
    }
}

impl Transport for Memory {
    fn connector(&self, address: &Address, _: &Settings) -> io::Result<Box<dyn Connector>> {
        Ok(Box::new(Dial { memory: self.clone(), address: address.clone() }))
    }

    fn bind(&self, address: &Address, _: &Settings) -> Binding {
        let (memory, address) = (self.clone(), address.clone());
        async move { memory.listen(address) }.boxed()
    }
}

impl Memory {
    fn listen(self, address: Address) -> io::Result<Box<dyn Acceptor>> {
        let (sender, knocks) = mpsc::channel(BACKLOG);
        let mut names = self.names.lock();
        if names.contains_key(address.rest()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        names.insert(address.rest().to_owned(), sender);
        drop(names);
        Ok(Box::new(Listen { memory: self, address, knocks }))
    }
}

/// Connections that wait to be accepted, as a kernel has them; further ones wait in line.
const BACKLOG: usize = 128;

struct Dial {
    memory: Memory,
    address: Address,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let address = self.address.clone();
        let listener = self.memory.names.lock().get(address.rest()).cloned();
        async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let mut listener = listener.ok_or_else(refused)?;
            let (knock, answer) = oneshot::channel();
            listener.send(knock).await.map_err(|_| refused())?;
            let io = answer.await.map_err(|_| refused())?;
            Ok(Connection::new(io).local(Some(address.clone())).remote(Some(address)))
        }
        .boxed()
    }
}

struct Listen {
    memory: Memory,
    address: Address,
    knocks: mpsc::Receiver<Knock>,
}

impl Acceptor for Listen {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            loop {
                // The table holds a sender as long as this listener lives.
                let knock = self.knocks.next().await.ok_or(io::ErrorKind::NotConnected)?;
                let (ours, theirs) = duplex(self.memory.capacity);
                // Who gave up in the meantime is passed over.
                if knock.send(theirs).is_ok() {
                    let address = Some(self.address.clone());
                    return Ok(Connection::new(ours).local(address.clone()).remote(address));
                }
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        Some(self.address.clone())
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        let sender = self.memory.names.lock().remove(self.address.rest());
        drop(sender);
    }
}
