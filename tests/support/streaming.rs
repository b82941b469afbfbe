//! A service whose methods take and give many messages, and a world with a client of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use trunkline::rpc::{Client, Code, Context, Receiver, Router, Status, codec::Raw};

use super::calls::{World, echo};

pub type Messages = Receiver<Bytes, Raw>;

/// `S.Sum` counts what it gets, `S.Count` yields, `S.Chat` answers each, `S.Late` answers the
/// first message after the last, `S.Deaf` reads nothing, `S.Flood` never ends.
pub fn router(yielded: &Arc<AtomicUsize>) -> Router {
    let mut router = Router::bytes();
    router
        .client_streaming("S.Sum", |_, mut messages: Messages| async move {
            let mut sum = 0;
            while let Some(message) = messages.next().await {
                sum += message?.len();
            }
            Ok(Bytes::from(sum.to_string()))
        })
        .unwrap()
        .server_streaming("S.Count", |ctx: Context, upto: Bytes| async move {
            let upto: usize = std::str::from_utf8(&upto).unwrap().parse().unwrap();
            ctx.set_header("upto", upto.to_string());
            let end = async move {
                ctx.set_trailer("done", "yes");
                None
            };
            let items = stream::iter(0..upto).map(|n| Ok(Bytes::from(n.to_string())));
            Ok(items.map(Some).chain(stream::once(end)).filter_map(std::future::ready))
        })
        .unwrap()
        .bidirectional("S.Chat", |_, messages: Messages| async move {
            Ok(messages.map(|said| said.map(|said| Bytes::from([&b"re: "[..], &said].concat()))))
        })
        .unwrap()
        .client_streaming("S.Deaf", |_, messages: Messages| async move {
            let _messages = messages;
            std::future::pending::<Result<Bytes, Status>>().await
        })
        .unwrap()
        .client_streaming("S.Early", |_, _: Messages| async move { Ok(Bytes::from("enough")) })
        .unwrap()
        .server_streaming("S.Fail", |_, _: Bytes| async move {
            let failed = Status::new(Code::Conflict, "half way");
            Ok(stream::iter([Ok(Bytes::from("one")), Err(failed), Ok(Bytes::from("never"))]))
        })
        .unwrap()
        .server_streaming("S.Panic", |_, _: Bytes| async move {
            Ok(stream::iter(0..2).map(|n| match n {
                0 => Ok(Bytes::from("one")),
                _ => std::panic::resume_unwind(Box::new("on purpose")),
            }))
        })
        .unwrap();
    let yielded = yielded.clone();
    router
        .server_streaming("S.Flood", move |_, _: Bytes| {
            let yielded = yielded.clone();
            async move { Ok(flood(yielded)) }
        })
        .unwrap();
    router
}

pub fn flood(yielded: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::repeat_with(move || {
        yielded.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![7; 1_024]))
    })
}

pub fn world(seed: u64) -> (World, Client, Arc<AtomicUsize>) {
    let mut world = World::new(seed);
    let yielded = Arc::new(AtomicUsize::new(0));
    let mut router = router(&yielded);
    router.merge(&echo(&world.runtime)).unwrap();
    let (client, _) = world.serve(router);
    (world, client, yielded)
}
