//! A writer that has nothing to write still learns how its stream ended.

use futures::{
    AsyncReadExt, AsyncWriteExt,
    executor::block_on,
    future::{self, Either},
    pin_mut,
};
use trunkline::{Config, ResetCode, Session, StreamError, transport::memory};

/// Runs `work` beside the drivers of two joined sessions.
fn run<F: Future>(work: impl FnOnce(Session, Session) -> F) -> F::Output {
    let (left, right) = memory::duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    let (server, peer) = Session::server(right, Config::default());
    let drivers = future::join(driver, peer);
    let work = work(client, server);
    pin_mut!(drivers, work);
    match block_on(future::select(work, drivers)) {
        Either::Left((output, _)) => output,
        Either::Right((_, work)) => block_on(work),
    }
}

// spec.md §4.7.6
#[test]
fn a_reset_after_fin_reaches_a_waiting_writer() {
    run(async |client, server| {
        let mut stream = client.open().await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        stream.flush().await.unwrap();
        let (mut theirs_read, mut theirs_write) = server.accept().await.unwrap().into_split();
        theirs_read.read_exact(&mut [0; 2]).await.unwrap();
        theirs_write.close().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);

        let wait = stream.ended();
        let reset = async {
            theirs_write.reset(ResetCode(0x101));
            drop(theirs_read);
        };
        let (ended, ()) = future::join(wait, reset).await;
        assert_eq!(ended, Err(StreamError::Reset(ResetCode(0x101))));
    });
}

// spec.md §4.7.3
#[test]
fn both_directions_finished_is_a_good_end() {
    run(async |client, server| {
        let mut stream = client.open().await.unwrap();
        stream.close().await.unwrap();
        let finish = async {
            let mut accepted = server.accept().await.unwrap();
            accepted.close().await.unwrap();
            accepted.ended().await
        };
        let (ours, theirs) = future::join(stream.ended(), finish).await;
        assert_eq!((ours, theirs), (Ok(()), Ok(())));
    });
}
