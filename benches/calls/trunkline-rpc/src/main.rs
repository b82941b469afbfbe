//! `trunkline`'s RPC: bodies as bytes, the defaults.

use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use futures::stream;
use side::{Contestant, Result};
use trunkline::{
    Config,
    rpc::{Client, Router, Server},
};

struct Rpc;

impl Contestant for Rpc {
    type Client = Client;
    type Caller = Client;

    async fn serve() -> Result<()> {
        let mut router = Router::bytes();
        router.unary("Echo.Say", |_, said: Bytes| async move { Ok(said) })?.server_streaming(
            "Echo.Flow",
            |_, size: Bytes| async move {
                let size = size.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
                let message = BytesMut::zeroed(size as usize).freeze();
                Ok(stream::iter((0..side::ENDLESS).map(move |_| Ok(message.clone()))))
            },
        )?;
        let server = Server::new(router, &trunkline::tokio::runtime());
        let listener = side::listen().await?;
        loop {
            let tcp = side::accept(&listener).await?;
            tokio::spawn(server.serve(trunkline::tokio::server(tcp, Config::default())));
        }
    }

    async fn connect(address: String) -> Result<Client> {
        let session = trunkline::tokio::client(side::dial(&address).await?, Config::default());
        Ok(Client::new(session, &trunkline::tokio::runtime()))
    }

    fn caller(client: &Client) -> Result<Client> {
        Ok(client.clone())
    }

    async fn call(client: &mut Client, body: &Bytes) -> Result<usize> {
        let echo: Bytes = client.call("Echo.Say", body).await?;
        Ok(echo.len())
    }

    async fn stream(
        client: &Client,
        size: usize,
        mut got: impl FnMut(usize) -> bool,
    ) -> Result<()> {
        let size = Bytes::copy_from_slice(&(size as u32).to_be_bytes());
        let call = client.request("Echo.Flow").timeout(None);
        let mut messages = call.server_streaming::<Bytes, Bytes>(&size).await?;
        while let Some(message) = messages.next().await {
            if !got(message?.len()) {
                break;
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    side::run::<Rpc>()
}
