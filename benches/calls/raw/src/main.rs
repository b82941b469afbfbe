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
    type Caller = TcpStream;

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

    fn caller(client: &Self::Client) -> Result<TcpStream> {
        client.borrow_mut().take().ok_or_else(|| "one caller at a time".into())
    }

    async fn call(caller: &mut TcpStream, body: &Bytes) -> Result<usize> {
        caller.write_all(body).await?;
        let mut echo = [0; 64 << 10];
        Ok(caller.read_exact(&mut echo[..body.len()]).await?)
    }
}

fn main() -> ExitCode {
    side::run::<Raw>()
}
