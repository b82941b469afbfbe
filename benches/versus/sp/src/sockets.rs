//! Ours: a task for every context, on a runtime with one thread.

use std::io::{Write, stdout};

use bytes::Bytes;
use tokio::runtime::Builder;
use trunkline::{
    sp::{Options, RepSocket, ReqSocket, RequestError},
    transport::Transports,
};

use crate::job::{Party, Result, Sample};

pub fn serve(party: &Party) -> Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let runtime = trunkline::tokio::runtime();
        let socket = RepSocket::new(runtime, Transports::default(), Options::default());
        socket.listen(&address(party)).await?;
        println!("ready");
        stdout().flush()?;
        loop {
            let (request, replier) = socket.recv().await?;
            replier.send(request).await?;
        }
    })
}

pub fn ask(party: &Party) -> Result<Sample> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let runtime = trunkline::tokio::runtime();
        let socket = ReqSocket::new(runtime, Transports::default(), Options::default());
        socket.dial(&address(party)).await?;
        let body = Bytes::from(vec![7; party.job.size]);
        let mut tasks = Vec::new();
        for mut watch in party.watches() {
            let (context, body) = (socket.context()?, body.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    watch.ask();
                    let reply = context.request(body.clone()).await?;
                    assert_eq!(reply.len(), body.len());
                    if !watch.answered() {
                        return Ok::<_, RequestError>(watch);
                    }
                }
            }));
        }
        let mut watches = Vec::new();
        for task in tasks {
            watches.push(task.await??);
        }
        Sample::of(watches, party.measure)
    })
}

fn address(party: &Party) -> String {
    party.address(match party.job.contestant {
        "trunkline-mux" => "mux+tcp",
        _ => "tcp",
    })
}
