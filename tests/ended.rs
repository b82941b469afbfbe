//! A writer that has nothing to write still learns how its stream ended.

use std::io::IoSlice;

use bytes::Bytes;
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

// spec.md §4.7.3: nothing is kept for it, and its place in the table is another's.
#[test]
fn a_stream_that_is_over_answers_as_before_and_disturbs_no_other() {
    run(async |client, server| {
        let mut text = String::new();
        let mut ours = client.open().await.unwrap();
        ours.write_all(b"question").await.unwrap();
        ours.close().await.unwrap();
        let mut theirs = server.accept().await.unwrap();
        theirs.read_to_string(&mut text).await.unwrap();
        theirs.write_all(b"answer").await.unwrap();
        theirs.close().await.unwrap();
        ours.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "questionanswer");

        let mut next = client.open().await.unwrap();
        next.write_all(b"more").await.unwrap();
        next.flush().await.unwrap();
        let mut far = server.accept().await.unwrap();
        assert_eq!((ours.id().unwrap().0, theirs.id().unwrap().0), (1, 1));
        for over in [&mut ours, &mut theirs] {
            let finished = |error: std::io::Error| StreamError::of(&error);
            assert_eq!(over.read(&mut [0; 9]).await.unwrap(), 0);
            assert_eq!(over.read_chunk(9).await.unwrap(), None);
            let written = over.write(b"x").await;
            assert_eq!(written.map_err(finished), Err(Some(StreamError::Finished)));
            let mut chunk = Bytes::from("x");
            let written = over.write_chunk(&mut chunk).await;
            assert_eq!(written.map_err(finished), Err(Some(StreamError::Finished)));
            over.write_chunk(&mut Bytes::new()).await.unwrap();
            assert_eq!(over.write_vectored(&[]).await.unwrap(), 0);
            assert_eq!(over.write_vectored(&[IoSlice::new(b"")]).await.unwrap(), 0);
            let written = over.write_vectored(&[IoSlice::new(b"x")]).await;
            assert_eq!(written.map_err(finished), Err(Some(StreamError::Finished)));
            over.flush().await.unwrap();
            over.close().await.unwrap();
            assert_eq!(over.ended().await, Ok(()));
            over.set_read_deadline(Some(std::time::Instant::now())).unwrap();
            over.set_write_deadline(None).unwrap();
            assert_eq!(over.read(&mut [0; 9]).await.unwrap(), 0);
        }
        let (read, write) = ours.into_split();
        let (other_read, other_write) = next.into_split();
        let apart = read.reunite(other_write).unwrap_err();
        let mut next = other_read.reunite(apart.write).unwrap();
        let ours = apart.read.reunite(write).unwrap();
        ours.reset(ResetCode::CANCELLED);
        drop(theirs);

        let mut bytes = [0; 4];
        far.read_exact(&mut bytes).await.unwrap();
        far.write_all(&bytes).await.unwrap();
        far.flush().await.unwrap();
        next.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"more");
    });
}

// What nobody read is kept, and so is what the connection has not taken.
#[test]
fn what_is_unread_outlives_the_end() {
    run(async |client, server| {
        let mut ours = client.open().await.unwrap();
        ours.write_all(b"question").await.unwrap();
        ours.close().await.unwrap();
        let mut theirs = server.accept().await.unwrap();
        theirs.close().await.unwrap();
        assert_eq!(ours.ended().await, Ok(()));
        assert_eq!(theirs.ended().await, Ok(()));
        let mut half = [0; 4];
        theirs.read_exact(&mut half).await.unwrap();
        theirs.read_exact(&mut half).await.unwrap();
        assert_eq!(&half, b"tion");
        assert_eq!(theirs.read(&mut half).await.unwrap(), 0);
    });
}
