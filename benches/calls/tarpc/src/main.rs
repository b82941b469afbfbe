//! tarpc: bincode over TCP, bodies as byte strings (a `Vec<u8>` would go byte by byte).

use std::process::ExitCode;

use bytes::Bytes;
use futures::StreamExt;
use serde_bytes::ByteBuf;
use side::{Contestant, Result};
use tarpc::{
    client, context, serde_transport,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::{Decoder, LengthDelimitedCodec},
};

#[tarpc::service]
trait Echo {
    async fn say(said: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Server;

impl Echo for Server {
    async fn say(self, _: context::Context, said: ByteBuf) -> ByteBuf {
        said
    }
}

struct Tarpc;

impl Contestant for Tarpc {
    type Client = EchoClient;
    type Caller = EchoClient;

    async fn serve() -> Result<()> {
        let listener = side::listen().await?;
        loop {
            let framed = LengthDelimitedCodec::new().framed(side::accept(&listener).await?);
            let transport = serde_transport::new(framed, Bincode::default());
            let calls = BaseChannel::with_defaults(transport).execute(Server.serve());
            tokio::spawn(calls.for_each(|call| async {
                tokio::spawn(call);
            }));
        }
    }

    async fn connect(address: String) -> Result<EchoClient> {
        let framed = LengthDelimitedCodec::new().framed(side::dial(&address).await?);
        let transport = serde_transport::new(framed, Bincode::default());
        Ok(EchoClient::new(client::Config::default(), transport).spawn())
    }

    fn caller(client: &EchoClient) -> Result<EchoClient> {
        Ok(client.clone())
    }

    async fn call(client: &mut EchoClient, body: &Bytes) -> Result<usize> {
        let echo = client.say(context::current(), ByteBuf::from(&body[..])).await?;
        Ok(echo.len())
    }
}

fn main() -> ExitCode {
    side::run::<Tarpc>()
}
