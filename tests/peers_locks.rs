//! What runs the user's code, here the end of a value, runs while no lock is held.
#![allow(clippy::unwrap_used)]

#[path = "support/wires.rs"]
mod wires;

use std::{
    cell::Cell,
    future::poll_fn,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use trunkline::{
    peers::{Claim, Overflow, PeerStore, Policy, SendError},
    runtime::{BoxFuture, Runtime, Timer},
    tokio::TokioTimer,
    transport::Transports,
};
use wires::{Net, at, ms, pause, soon, until};

/// Uses the store when it ends.
struct Meddler {
    store: PeerStore,
    ended: Arc<AtomicUsize>,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        let _ = self.store.len();
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for Meddler {
    fn as_ref(&self) -> &[u8] {
        b"meddler"
    }
}

/// Fails instead of hanging where a lock is taken twice.
fn free_of_deadlock(test: impl Future<Output = ()> + Send + 'static) {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
        done.send(()).unwrap();
    });
    wait.recv_timeout(Duration::from_secs(60)).expect("neither a deadlock nor a panic");
}

#[test]
fn a_filter_that_nobody_needs_any_more_may_use_the_store_as_it_ends() {
    free_of_deadlock(async {
        let (net, ended) = (Net::default(), Arc::new(AtomicUsize::new(0)));
        let store = net.store("ann").await;
        let subscribe = || {
            let meddler = Meddler { store: store.clone(), ended: ended.clone() };
            store.subscribe(move |message| message.body == meddler.as_ref(), 1, Overflow::Wait)
        };
        drop(subscribe());
        let last = subscribe();
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        store.shutdown().await;
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        drop(last);
        // Nobody will ever ask it.
        let mut late = subscribe();
        assert_eq!(ended.load(Ordering::SeqCst), 3);
        assert!(late.next().await.is_none());
    });
}

#[test]
fn a_message_that_is_given_up_may_use_the_store_as_it_ends() {
    free_of_deadlock(async {
        let (net, ended) = (Net::default(), Arc::new(AtomicUsize::new(0)));
        let (ann, _bob) = (net.store("ann").await, net.store("bob").await);
        let peer = ann.connect(&at("bob")).await.unwrap();
        net.mute("ann", "bob");
        let send = || {
            let meddler = Meddler { store: ann.clone(), ended: ended.clone() };
            peer.send(Bytes::from_owner(meddler), Policy::Drop)
        };
        let written = send();
        pause(ms(10)).await;
        let waiting: Vec<_> = (0..5).map(|_| send()).collect();
        peer.session().unwrap().abort(trunkline::GoAwayCode::INTERNAL_ERROR);
        let fates = soon(join_all(waiting)).await;
        assert!(fates.iter().all(|fate| *fate == Err(SendError::Disconnected)), "{fates:?}");
        assert_eq!(soon(written).await, Err(SendError::Lost));
        pause(ms(10)).await;
        assert_eq!(ended.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn an_identity_that_is_known_no_longer_may_use_the_store_as_it_ends() {
    free_of_deadlock(async {
        let (net, ended) = (Net::default(), Arc::new(AtomicUsize::new(0)));
        let store: Arc<OnceLock<PeerStore>> = Arc::default();
        let (late, count) = (store.clone(), ended.clone());
        let verify = move |_: &Claim| {
            let store = late.get().unwrap().clone();
            Ok(Bytes::from_owner(Meddler { store, ended: count.clone() }))
        };
        let bob = net.builder("bob").verify(verify).build();
        bob.listen(&at("bob")).await.unwrap();
        store.set(bob.clone()).unwrap();
        let ann = net.store("ann").await;
        for _ in 0..3 {
            ann.connect(&at("bob")).await.unwrap().disconnect().await;
            until(|| bob.is_empty()).await;
        }
        assert_eq!(ended.load(Ordering::SeqCst), 3);
    });
}

/// A waker that uses the store when it wakes.
struct MeddlingWaker {
    store: Arc<OnceLock<PeerStore>>,
    woken: Arc<AtomicUsize>,
    inner: Waker,
}

impl Wake for MeddlingWaker {
    fn wake(self: Arc<Self>) {
        self.store.get().map(PeerStore::len);
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.inner.wake_by_ref();
    }
}

/// From the first session to the end of the shutdown.
#[test]
fn the_wakers_of_a_runtime_may_use_the_store() {
    free_of_deadlock(async {
        let (net, woken) = (Net::default(), Arc::new(AtomicUsize::new(0)));
        let store: Arc<OnceLock<PeerStore>> = Arc::default();
        let (late, counting) = (store.clone(), woken.clone());
        let runtime = Runtime::new(move |mut task: BoxFuture| {
            let (store, woken) = (late.clone(), counting.clone());
            let meddling =
                move |inner| Waker::from(Arc::new(MeddlingWaker { store, woken, inner }));
            let (mut meddling, mut waker) = (Some(meddling), None);
            tokio::spawn(poll_fn(move |cx| {
                if let Some(meddling) = meddling.take() {
                    waker = Some(meddling(cx.waker().clone()));
                }
                task.as_mut().poll(&mut Context::from_waker(waker.as_ref().unwrap()))
            }));
        });
        let runtime = runtime.timer(Arc::new(TokioTimer));
        let ann = PeerStore::builder(wires::id("ann"), runtime, net.of("ann")).build();
        store.set(ann.clone()).unwrap();
        let (bob, mut events) = (net.store("bob").await, ann.events());
        let mut heard = ann.subscribe(|_| true, 1, Overflow::Wait);
        ann.listen(&at("ann")).await.unwrap();
        ann.keep(&at("bob")).unwrap();
        until(|| ann.len() == 1 && bob.len() == 1).await;
        let (there, back) = (ann.peer(bob.id()), bob.peer(ann.id()));
        let _ = join_all((0..30).map(|_| there.send("hi", Policy::Wait))).await;
        let _ = join_all((0..3).map(|_| back.send("hi", Policy::Wait))).await;
        heard.next().await.unwrap();
        net.cut("ann", "bob");
        until(|| ann.len() == 1 && bob.len() == 1).await;
        there.disconnect().await;
        bob.connect(&at("ann")).await.unwrap();
        soon(ann.shutdown()).await;
        while events.next().await.is_some() {}
        assert!(woken.load(Ordering::SeqCst) > 20);
    });
}

thread_local! {
    static HELD_UP: Cell<bool> = const { Cell::new(false) };
}

/// Tokio's clock, and a gate before it for a thread that is to be held up.
#[derive(Debug)]
struct Gate {
    reached: Mutex<mpsc::Sender<()>>,
    opened: Mutex<mpsc::Receiver<()>>,
}

impl Timer for Gate {
    fn now(&self) -> Instant {
        if HELD_UP.take() {
            self.reached.lock().unwrap().send(()).unwrap();
            self.opened.lock().unwrap().recv().unwrap();
        }
        TokioTimer.now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        TokioTimer.sleep_until(at)
    }
}

/// spec.md §16.2.3: also where each was judged before the other was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_identities_that_come_at_once_under_one_id_the_second_is_refused() {
    let ((reached, wait), (open, opened)) = (mpsc::channel(), mpsc::channel());
    let gate = Gate { reached: Mutex::new(reached), opened: Mutex::new(opened) };
    let verify = |claim: &Claim| {
        HELD_UP.set(claim.token == "late");
        Ok(claim.token.clone())
    };
    let network = Transports::default();
    let runtime = trunkline::tokio::runtime().timer(Arc::new(gate));
    let bob = PeerStore::builder(wires::id("bob"), runtime, network.clone()).verify(verify).build();
    bob.listen(&at("bob")).await.unwrap();
    let hello = |dial: u64, token: &[u8]| {
        let hello = [&wires::introduction(1, dial, "ann")[..], token].concat();
        [b"TK\x04\0", &wires::framed(&hello)[..]].concat()
    };
    let (_late, mut late) = wires::say(&network, "bob", &hello(2, b"late")).await;
    tokio::task::spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
    let (_other, mut other) = wires::say(&network, "bob", &hello(1, b"other")).await;
    assert_eq!(soon(wires::answer(&mut other)).await.unwrap()[0], 0);
    open.send(()).unwrap();
    assert_eq!(soon(wires::answer(&mut late)).await.unwrap()[0], 1, "not verified");
    assert_eq!(bob.peers()[0].identity, "other");
}
