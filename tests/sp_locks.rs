//! What runs the user's code, a waker or the end of a value, runs while no lock is held.
#![allow(clippy::unwrap_used)]

mod sp_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use sp_support::{Peer, REQ, defaults, options, raw_rep, raw_req, rep, req, run, settle, words};
use trunkline::{
    sp::{Message, PipeEvent},
    transport::Transports,
};

const ADDRESS: &str = "memory://locks";
const ID: u32 = 0x8000_0001;

/// A body that uses the socket when it ends.
struct Meddler(Box<dyn Fn() + Send + Sync>);

impl Drop for Meddler {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl AsRef<[u8]> for Meddler {
    fn as_ref(&self) -> &[u8] {
        b"meddler"
    }
}

/// A waker that does.
struct MeddlingWaker(Box<dyn Fn() + Send + Sync>);

impl Wake for MeddlingWaker {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// How often someone did.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn counted(&self, meddle: impl Fn() + Send + Sync + 'static) -> Box<dyn Fn() + Send + Sync> {
        let count = self.0.clone();
        Box::new(move || {
            meddle();
            count.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn meddler(&self, meddle: impl Fn() + Send + Sync + 'static) -> Meddler {
        Meddler(self.counted(meddle))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Fails instead of hanging where a lock is taken twice.
fn free_of_deadlock(test: impl Future<Output = ()> + Send + 'static) {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        run(test);
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(60)).expect("neither a deadlock nor a panic");
}

#[test]
fn the_end_of_a_body_may_use_the_socket() {
    free_of_deadlock(async {
        let transports = Transports::default();
        let count = Count::default();
        let server = rep(&transports, defaults());
        server.listen(ADDRESS).await.unwrap();
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        peer.send(&words(&[ID], b"x")).await;
        let (_, replier) = server.recv().await.unwrap();
        let used = server.clone();
        let body = count.meddler(move || drop(used.pipes()));
        replier.send(Bytes::from_owner(body)).await.unwrap();
        assert_eq!((peer.recv().await, count.get()), (words(&[ID], b"meddler"), 1));

        // That of a request which is withdrawn, and of one which is answered.
        let client = req(&transports, defaults());
        let body = || {
            let used = client.clone();
            Bytes::from_owner(count.meddler(move || drop(used.pipes())))
        };
        assert!(client.send(body()).now_or_never().is_none());
        assert_eq!(count.get(), 2);
        let asking = client.request(body());
        client.dialer(ADDRESS, defaults()).unwrap().dial_background().unwrap();
        let answer = async {
            let (request, replier) = server.recv().await.unwrap();
            replier.send(request).await.unwrap();
        };
        let (reply, ()) = futures::join!(asking, answer);
        assert_eq!((reply.unwrap(), count.get()), ("meddler".into(), 3));
    });
}

#[test]
fn the_end_of_a_raw_message_may_use_the_socket() {
    free_of_deadlock(async {
        let transports = Transports::default();
        let count = Count::default();
        let (front, back) = (raw_rep(&transports, defaults()), raw_req(&transports, defaults()));
        front.listen(ADDRESS).await.unwrap();
        back.dial(ADDRESS).await.unwrap();
        let used = back.clone();
        let body = count.meddler(move || drop(used.pipes()));
        let message = Message::new(words(&[ID], b""), Bytes::from_owner(body));
        back.send_message(message).await.unwrap();
        let request = front.recv_message().await.unwrap();
        let used = front.clone();
        let body = count.meddler(move || drop(used.pipes()));
        front.send_message(Message::new(request.header, Bytes::from_owner(body))).await.unwrap();
        assert_eq!(back.recv_message().await.unwrap().body, "meddler");
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn events_may_use_the_socket_where_they_arrive_and_where_they_are_lost() {
    free_of_deadlock(async {
        let transports = Transports::default();
        let count = Count::default();
        let server = rep(&transports, options(|it| it.event_queue(1)));
        let mut events = server.events();
        let used = server.clone();
        let waker = count.counted(move || drop(used.events()));
        let waker = Waker::from(Arc::new(MeddlingWaker(waker)));
        assert!(events.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());

        // The last to know its options is the event that a new one displaces.
        let used = server.clone();
        let guard = count.meddler(move || drop(used.events()));
        let guarded = server.options().to_builder().admit(move |_| {
            let _ = &guard;
            true
        });
        let listener = server.listener(ADDRESS, guarded.build().unwrap()).unwrap();
        listener.listen().await.unwrap();
        let mut peer = Peer::dial(&transports, ADDRESS, REQ).await;
        settle().await;
        assert_eq!(count.get(), 1, "woken, once");
        listener.close();
        drop(listener);
        server.pipes()[0].close();
        assert!(peer.is_closed().await);
        settle().await;
        assert_eq!((count.get(), events.lost()), (1, 2), "its last event is there");
        server.listen(ADDRESS).await.unwrap();
        let _peer = Peer::dial(&transports, ADDRESS, REQ).await;
        settle().await;
        assert_eq!((count.get(), events.lost()), (2, 4), "and is displaced");
        assert!(matches!(events.try_next(), Some(PipeEvent::Attached(_))));
    });
}
