//! Calls on sessions without a timer keep their times all the same (`spec.md §15.6.5`).
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/messages.rs"]
mod messages;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use calls::World;
use futures::{AsyncWriteExt, StreamExt, stream};
use trunkline::{
    ResetCode, Session, Stream, StreamError,
    rpc::{Client, Code, Router, Server, ServerBuilder, ServerStats, Status},
};

/// Two joined sessions of which the first has no timer.
fn pair(world: &mut World) -> (Session, Session) {
    let untimed = world.sim.config().no_timer().build().unwrap();
    let timed = world.sim.config().build().unwrap();
    world.sim.pair_with(1 << 16, untimed, timed)
}

/// Until this the calls of a client may last, and not a moment longer.
const TIME: Duration = Duration::from_secs(2);

/// The code of a call that is made, and that a server accepts and says nothing to but this.
fn code_of<F>(answer: Vec<u8>, call: impl FnOnce(Client) -> F) -> (Code, StreamError)
where
    F: Future<Output = Status> + 'static,
{
    let mut world = World::new(1);
    let (near, far) = pair(&mut world);
    let client = Client::new(near, &world.runtime);
    let failed = world.sim.spawn(call(client));
    let mut stream = world.sim.run(async move {
        let mut stream = far.accept().await.unwrap();
        stream.write_all(&answer).await.unwrap();
        stream
    });
    world.sim.advance(TIME - Duration::from_millis(1));
    assert!(!failed.is_ready());
    world.sim.advance(Duration::from_millis(2));
    let code = failed.take().expect("it waits on").code();
    let error = world.sim.run(async move { stream.write_all(b"late").await.unwrap_err() });
    (code, support::inner(&error))
}

const EXPIRED: (Code, StreamError) = (Code::Timeout, StreamError::Reset(ResetCode::EXPIRED));

#[test]
fn an_answer_is_awaited_until_the_deadline() {
    let ended = code_of(Vec::new(), |client| async move {
        let call = client.request("A.Never").timeout(Some(TIME));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    assert_eq!(ended, EXPIRED);
}

#[test]
fn the_messages_of_an_answer_are_awaited_until_the_deadline() {
    // A head that says that messages follow.
    let head = messages::message(trunkline::exchange::Kind::Response, b"\x01\0\0\0\0\0\0");
    let ended = code_of(head, |client| async move {
        let call = client.request("A.Never").timeout(Some(TIME));
        let mut answers = call.server_streaming::<_, Bytes>(&Bytes::new()).await.unwrap();
        let failed = answers.next().await.unwrap().unwrap_err();
        assert!(answers.next().await.is_none());
        failed
    });
    assert_eq!(ended, EXPIRED);
}

#[test]
fn a_sender_waits_for_room_until_the_deadline() {
    let ended = code_of(Vec::new(), |client| async move {
        let call = client.request("A.Deaf").timeout(Some(TIME));
        let (mut sender, _answer) = call.client_streaming::<Bytes, Bytes>().await.unwrap();
        loop {
            if let Err(failed) = sender.send(&Bytes::from(vec![1; 100_000])).await {
                let again = sender.send(&Bytes::from("x")).await.unwrap_err();
                assert_eq!(again.code(), Code::Timeout);
                break failed;
            }
        }
    });
    assert_eq!(ended, EXPIRED);
}

/// A server on a session without a timer, and a stream to it on which this was written.
fn served(router: Router, asked: &[u8]) -> (World, Server<Router>, Stream) {
    let mut world = World::new(2);
    let (far, near) = pair(&mut world);
    let builder = ServerBuilder::default().request_timeout(TIME);
    let server = builder.build(router, &world.runtime).unwrap();
    world.runtime.spawn(server.serve(far));
    let asked = asked.to_vec();
    let stream = world.sim.run(async move {
        let mut stream = near.open().await.unwrap();
        stream.write_all(&asked).await.unwrap();
        stream
    });
    (world, server, stream)
}

/// What the server made of it by the end of its time, and not a moment earlier.
fn ended(
    mut world: World,
    server: &Server<Router>,
    mut stream: Stream,
) -> (Vec<u8>, Option<StreamError>, ServerStats) {
    world.sim.advance(TIME - Duration::from_millis(1));
    assert_eq!(server.stats().active, 1);
    world.sim.advance(Duration::from_millis(2));
    let stats = server.stats();
    assert_eq!(stats.active, 0, "the server waits on");
    let (answer, error) = world.sim.run(async move { support::read_all(&mut stream).await });
    (answer, error, stats)
}

#[test]
fn a_request_is_awaited_for_its_time() {
    let preface = b"TK\x02\0";
    let (world, server, stream) = served(Router::bytes(), &preface[..2]);
    let (_, error, _) = ended(world, &server, stream);
    assert_eq!(error, Some(StreamError::Reset(ResetCode::PREFACE_TIMEOUT)));
    let (world, server, stream) = served(Router::bytes(), preface);
    let (answer, _, stats) = ended(world, &server, stream);
    assert_eq!((answer[9], stats.failed), (1, 1), "timeout: {answer:02x?}");
}

/// A request that may take this long, and whose caller does nothing about it.
fn request(method: &'static str) -> Vec<u8> {
    [b"TK\x02\0", &messages::request(method, Some(TIME.as_millis() as u32))[..]].concat()
}

#[test]
fn a_handler_is_given_up_at_the_deadline() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut router = Router::bytes();
    let (one, many) = (dropped.clone(), dropped.clone());
    router
        .unary("A.Never", move |_, _: Bytes| {
            let guard = Guard(one.clone());
            async move {
                let _guard = guard;
                std::future::pending::<Result<Bytes, Status>>().await
            }
        })
        .unwrap()
        .server_streaming("A.Silent", move |_, _: Bytes| {
            let guard = Guard(many.clone());
            let silent = stream::pending::<Result<Bytes, Status>>();
            async move {
                Ok(silent.inspect(move |_| {
                    let _ = &guard;
                }))
            }
        })
        .unwrap();
    for (number, method) in ["A.Never", "A.Silent"].into_iter().enumerate() {
        let (world, server, stream) = served(router.clone(), &request(method));
        let (answer, error, stats) = ended(world, &server, stream);
        assert_eq!((dropped.load(Ordering::SeqCst), stats.cancelled), (number + 1, 1), "{method}");
        // The caller is told, while there is room.
        let words = b"the deadline passed";
        assert!(answer.windows(words.len()).any(|bytes| bytes == words), "{method}");
        assert_eq!(error, None);
    }
}

#[test]
fn an_answer_waits_for_room_until_the_deadline() {
    let mut router = Router::bytes();
    router.unary("A.Long", |_, _: Bytes| async move { Ok(Bytes::from(vec![7; 1 << 20])) }).unwrap();
    let (world, server, stream) = served(router, &request("A.Long"));
    let (_, error, _) = ended(world, &server, stream);
    assert_eq!(error, Some(StreamError::Reset(ResetCode::EXPIRED)));
}
