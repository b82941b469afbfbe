//! Cap'n Proto RPC, two parties.

use std::{process::ExitCode, rc::Rc};

use bytes::Bytes;
use capnp::Error;
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork};
use side::{Contestant, Result};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

mod echo_capnp {
    #![allow(clippy::all, unused, unused_qualifications)]
    include!(concat!(env!("OUT_DIR"), "/echo_capnp.rs"));
}

use echo_capnp::echo;

struct Server;

impl echo::Server for Server {
    async fn say(
        self: Rc<Self>,
        params: echo::SayParams,
        mut results: echo::SayResults,
    ) -> Result<(), Error> {
        results.get().set_said(params.get()?.get_said()?);
        Ok(())
    }
}

struct Capnp;

impl Contestant for Capnp {
    type Client = echo::Client;
    type Caller = echo::Client;

    async fn serve() -> Result<()> {
        let listener = side::listen().await?;
        let echo: echo::Client = capnp_rpc::new_client(Server);
        loop {
            let network = network(side::accept(&listener).await?, Side::Server);
            tokio::task::spawn_local(RpcSystem::new(network, Some(echo.clone().client)));
        }
    }

    async fn connect(address: String) -> Result<echo::Client> {
        let network = network(side::dial(&address).await?, Side::Client);
        let mut system = RpcSystem::new(network, None);
        let echo = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        Ok(echo)
    }

    fn caller(client: &echo::Client) -> Result<echo::Client> {
        Ok(client.clone())
    }

    async fn call(client: &mut echo::Client, body: &Bytes) -> Result<usize> {
        let mut request = client.say_request();
        request.get().set_said(body);
        let response = request.send().promise.await?;
        Ok(response.get()?.get_said()?.len())
    }
}

fn network(tcp: TcpStream, side: Side) -> Box<VatNetwork<impl futures::AsyncBufRead + Unpin>> {
    let (read, write) = futures::AsyncReadExt::split(tcp.compat());
    let (read, write) = (futures::io::BufReader::new(read), futures::io::BufWriter::new(write));
    Box::new(VatNetwork::new(read, write, side, Default::default()))
}

fn main() -> ExitCode {
    side::run::<Capnp>()
}
