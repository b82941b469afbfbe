//! Being reached by peers.

use std::{io, sync::Arc};

use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{Either, join, select},
};

use super::{
    ConnectError, RefusalCode,
    sessions::Guard,
    store::Inner,
    wire::{Answer, Hello, read_framed, shorten},
};
use crate::{
    Backoff, Session, SessionError,
    session::Protocol,
    transport::{Acceptor, Address, Connection, Settings},
};

impl Inner {
    pub(super) async fn listen(&self, address: Address) -> Result<Option<Address>, ConnectError> {
        let transport = self.transport(&address)?;
        let settings = Settings::new(self.runtime.clone());
        let acceptor = transport.bind(&address, &settings).await;
        let acceptor = acceptor.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => ConnectError::Address(error.to_string()),
            _ => ConnectError::Bind(error.into()),
        })?;
        if self.is_shut() {
            return Err(ConnectError::Closed);
        }
        let me = self.myself.upgrade().ok_or(ConnectError::Closed)?;
        let local = acceptor.local_addr();
        self.runtime.spawn(me.accept_all(acceptor));
        Ok(local)
    }

    async fn accept_all(self: Arc<Self>, mut acceptor: Box<dyn Acceptor>) {
        let mut backoff = Backoff::accepting();
        loop {
            let accepted = match select(acceptor.accept(), self.closing.clone()).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            };
            match accepted {
                Ok(connection) => {
                    backoff.reset();
                    self.admit(connection);
                }
                Err(error) => {
                    log::debug!("accepting peers: {error}");
                    self.pause(&mut backoff).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, connection: Connection) {
        let admitted = self.state.with(|state| {
            let admitted = state.handshakes < self.config.max_handshakes;
            state.handshakes += usize::from(admitted);
            admitted
        });
        if !admitted {
            log::debug!("too many handshakes: {connection:?} is closed");
            return;
        }
        let admitted = Admitted { inner: self.clone() };
        self.runtime.spawn(async move {
            let me = &admitted.inner;
            let welcomed = {
                let welcoming = std::pin::pin!(me.welcome(connection));
                match select(welcoming, me.closing.clone()).await {
                    Either::Left((welcomed, _)) => welcomed,
                    Either::Right(_) => Err(ConnectError::Closed),
                }
            };
            if let Err(error) = welcomed {
                log::debug!("no peer: {error}");
            }
        });
    }

    async fn welcome(self: &Arc<Self>, connection: Connection) -> Result<(), ConnectError> {
        let (session, driver) = Session::server(connection.io, self.clocked());
        self.drive(driver);
        let guard = Guard::new(session);
        let ends = (connection.local, connection.remote, connection.evidence);
        let asked = async {
            let Some(mut stream) = guard.session.accept().await else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let mut preface = [0; 4];
            stream.read_exact(&mut preface).await?;
            if preface != Protocol::PEERS.preface() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let hello = read_framed(&mut stream).await?;
            Ok::<_, io::Error>((stream, hello))
        };
        let (mut stream, hello) =
            self.in_time(asked, self.config.handshake_timeout, &guard).await?;
        let hello = Hello::decode(hello).map_err(|_| ConnectError::Malformed);
        let entered = hello.and_then(|theirs| self.meet(&guard.session, theirs, ends, None));
        let answer = match &entered {
            Ok(entered) => Answer::Welcome(Hello {
                incarnation: self.incarnation,
                dials: entered.answered_after,
                id: self.me.clone(),
                token: self.config.token.clone(),
            }),
            Err(error) => refusal(error),
        };
        let said = async {
            stream.write_all(&answer.encode()).await?;
            stream.flush().await
        };
        let said = self.in_time(said, self.config.handshake_timeout, &guard).await;
        let entered = match (entered, said) {
            (Ok(entered), Ok(())) => entered,
            (Ok(entered), Err(error)) => {
                if let Some(generation) = entered.generation {
                    self.left(&entered.live, generation, Err(SessionError::Closed));
                }
                return Err(error);
            }
            (Err(error), _) => {
                // What was said should be read.
                join(stream.close(), self.close_session(&guard.session)).await.0.ok();
                return Err(error);
            }
        };
        guard.keep();
        self.start(entered, stream);
        Ok(())
    }
}

/// A place among the handshakes, given back also where the code of a user panics.
struct Admitted {
    inner: Arc<Inner>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.inner.state.with(|state| state.handshakes -= 1);
    }
}

fn refusal(error: &ConnectError) -> Answer {
    let code = match error {
        ConnectError::NotVerified(_) => RefusalCode::NotVerified,
        ConnectError::TooMany => RefusalCode::TooMany,
        ConnectError::Closed => RefusalCode::Closed,
        ConnectError::OtherPeer(_) => RefusalCode::SameId,
        _ => RefusalCode::Malformed,
    };
    let words = match error {
        ConnectError::NotVerified(why) => why.clone(),
        error => error.to_string(),
    };
    Answer::Refused(code, shorten(words))
}
