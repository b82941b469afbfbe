//! A connection, and nothing on it: what everyone else adds to. One caller at a time.

use std::{cell::RefCell, process::ExitCode, rc::Rc};

use bytes::Bytes;
use side::{Contestant, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

struct Raw;

impl Contestant for Raw {
    type Client = Rc<RefCell<Option<TcpStream>>>;
    /// With room for an echo.
    type Caller = (TcpStream, Vec<u8>);

    async fn serve() -> Result<()> {
        let listener = side::listen().await?;
        loop {
            let mut tcp = side::accept(&listener).await?;
            tokio::task::spawn_local(async move {
                let mut buf = vec![0; 64 << 10];
                while let Ok(read @ 1..) = tcp.read(&mut buf).await {
                    if tcp.write_all(&buf[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    }

    async fn connect(address: String) -> Result<Self::Client> {
        Ok(Rc::new(RefCell::new(Some(side::dial(&address).await?))))
    }

    fn caller(client: &Self::Client) -> Result<Self::Caller> {
        let tcp = client.borrow_mut().take().ok_or("one caller at a time")?;
        Ok((tcp, vec![0; 64 << 10]))
    }

    async fn call((tcp, room): &mut Self::Caller, body: &Bytes) -> Result<usize> {
        tcp.write_all(body).await?;
        Ok(tcp.read_exact(&mut room[..body.len()]).await?)
    }
}

fn main() -> ExitCode {
    side::run::<Raw>()
}
