//! tonic: protobuf over HTTP/2 without TLS. The service is written by hand, as `tonic-build` would
//! write it, so that no protobuf compiler is wanted.

mod service;

use std::process::ExitCode;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use side::{Contestant, Result};
use tonic::{
    Request,
    codegen::http::Uri,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::service_fn;

use service::{Body, EchoClient, EchoServer};

struct Tonic;

impl Contestant for Tonic {
    type Client = EchoClient;
    type Caller = EchoClient;

    async fn serve() -> Result<()> {
        let incoming = TcpIncoming::from(side::listen().await?);
        Server::builder()
            .initial_stream_window_size(LARGE)
            .initial_connection_window_size(LARGE)
            .add_service(EchoServer)
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    }

    async fn connect(address: String) -> Result<EchoClient> {
        let to = address.clone();
        let dial = service_fn(move |_: Uri| {
            let to = to.clone();
            async move { side::dial(&to).await.map(TokioIo::new) }
        });
        let channel: Channel = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(LARGE)
            .initial_connection_window_size(LARGE)
            .connect_with_connector(dial)
            .await?;
        Ok(EchoClient::new(channel))
    }

    fn caller(client: &EchoClient) -> Result<EchoClient> {
        Ok(client.clone())
    }

    async fn call(client: &mut EchoClient, body: &Bytes) -> Result<usize> {
        let echo = client.say(Request::new(Body { body: body.clone() })).await?;
        Ok(echo.into_inner().body.len())
    }

    async fn stream(
        client: &EchoClient,
        size: usize,
        mut got: impl FnMut(usize) -> bool,
    ) -> Result<()> {
        let size = Bytes::copy_from_slice(&(size as u32).to_be_bytes());
        let flow = client.clone().flow(Request::new(Body { body: size })).await?;
        let mut messages = flow.into_inner();
        while let Some(message) = messages.message().await? {
            if !got(message.body.len()) {
                break;
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    side::run::<Tonic>()
}

/// Larger than HTTP/2's 64 KiB, which would hold back its streams.
const LARGE: u32 = 1 << 20;
