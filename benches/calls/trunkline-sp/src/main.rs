//! `trunkline`'s request/reply sockets. `TRANSPORT=mux+tcp` puts their pipe on a shared session.

use std::process::ExitCode;

use bytes::Bytes;
use side::{Contestant, Result};
use trunkline::{
    sp::{Options, RepSocket, ReqContext, ReqSocket},
    transport::Transports,
};

struct Sp;

impl Contestant for Sp {
    type Client = ReqSocket;
    type Caller = ReqContext;

    async fn serve() -> Result<()> {
        let scheme = std::env::var("TRANSPORT").unwrap_or_else(|_| "tcp".into());
        let runtime = trunkline::tokio::runtime();
        let socket = RepSocket::new(runtime, Transports::default(), Options::default());
        let listener = socket.listen(&format!("{scheme}://127.0.0.1:0")).await?;
        side::listening(listener.local_addr().ok_or("no address")?);
        loop {
            let (request, replier) = socket.recv().await?;
            replier.send(request).await?;
        }
    }

    async fn connect(address: String) -> Result<ReqSocket> {
        let runtime = trunkline::tokio::runtime();
        let socket = ReqSocket::new(runtime, Transports::default(), Options::default());
        socket.dial(&address).await?;
        Ok(socket)
    }

    fn caller(client: &ReqSocket) -> Result<ReqContext> {
        Ok(client.context()?)
    }

    async fn call(context: &mut ReqContext, body: &Bytes) -> Result<usize> {
        Ok(context.request(body.clone()).await?.len())
    }
}

fn main() -> ExitCode {
    side::run::<Sp>()
}
