//! Which handler serves which method, and what a router tells about itself.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use bytes::Bytes;
use calls::{World, echo, say};
use futures::stream;
use serde::Deserialize;
use trunkline::rpc::{
    Code, Context, Endpoint, MethodKind, Receiver, RegisterError, Retryable, Router, codec::Json,
};

#[test]
fn what_is_not_there_has_a_status_each() {
    // spec.md §15.5
    let mut world = World::new(7);
    let router = echo(&world.runtime);
    let (client, _) = world.serve(router);
    world.sim.run(async move {
        let nothing = Bytes::new();
        for (name, code) in [
            ("Nodot", Code::BadRequest),
            (".Say", Code::BadRequest),
            ("Echo.", Code::BadRequest),
            ("Nobody.Say", Code::NotFound),
            ("Echo.Shout", Code::Unimplemented),
        ] {
            let failed = client.call::<_, Bytes>(name, &nothing).await.unwrap_err();
            assert_eq!(failed.code(), code, "{name}");
            assert_eq!(failed.retryable(), Retryable::Never);
        }
        assert_eq!(
            client.call::<_, Bytes>("", &nothing).await.unwrap_err().code(),
            Code::BadRequest
        );
        assert!(say(&client, "still there").await.is_ok());
    });
}

#[test]
fn bad_registrations_leave_the_router_usable() {
    let mut router = echo(&World::new(21).runtime);
    let before = router.endpoints().count();
    let same = |_: Context, said: Bytes| async move { Ok(said) };
    let long = format!("A.{}", "b".repeat(254));
    for name in ["", "x", ".x", "x.", &long] {
        let name = name.to_owned();
        let failed = router.unary(name, same).map(drop);
        assert!(matches!(&failed, Err(RegisterError::BadName(_))), "{failed:?}");
    }
    let failed = router.unary("Echo.Say", same).map(drop);
    assert_eq!(failed, Err(RegisterError::Duplicate("Echo.Say".into())));
    let failed = router.merge(&echo(&World::new(21).runtime)).map(drop);
    assert!(matches!(failed, Err(RegisterError::Duplicate(_))), "{failed:?}");
    assert_eq!(router.endpoints().count(), before);
    router.unary("Echo.Other", same).unwrap();
    assert_eq!(router.endpoints().count(), before + 1);
}

#[test]
fn endpoints_tell_all_about_a_method() {
    let mut router = Router::json();
    router.describe("since", "2.0");
    router.unary("A.B", |_, n: i64| async move { Ok(n.to_string()) }).unwrap();
    let same = |_: Context, messages: Receiver<i64, Json>| async move { Ok(messages) };
    let many = |_: Context, n: i64| async move { Ok(stream::iter([Ok(n.to_string())])) };
    let last = |_: Context, _: Receiver<String, Json>| async move { Ok(7_u8) };
    router.describe("since", "2.1").describe("by", "us").client_streaming("A.Up", last).unwrap();
    router.server_streaming("A.Down", many).unwrap().bidirectional("A.Both", same).unwrap();
    router.with_debug().unwrap();
    let find = |name: &str| -> Endpoint {
        router.endpoints().find(|endpoint| endpoint.name == name).unwrap().clone()
    };
    let endpoint = find("A.B");
    assert_eq!(endpoint.kind, MethodKind::Unary);
    assert_eq!((endpoint.request, endpoint.response), ("i64", "alloc::string::String"));
    assert_eq!(endpoint.metadata.text("since"), Some("2.0"));
    let [up, down, both] = ["A.Up", "A.Down", "A.Both"].map(find);
    assert_eq!((up.kind, up.request, up.response), {
        (MethodKind::ClientStreaming, "alloc::string::String", "u8")
    });
    assert_eq!((up.metadata.text("since"), up.metadata.text("by")), (Some("2.1"), Some("us")));
    assert_eq!((down.kind, down.request, down.response), {
        (MethodKind::ServerStreaming, "i64", "alloc::string::String")
    });
    assert_eq!((both.kind, both.request, both.response), (MethodKind::Bidirectional, "i64", "i64"));
    assert!(down.metadata.is_empty() && both.metadata.is_empty());
    let names: Vec<_> = router.endpoints().map(|endpoint| endpoint.name.to_string()).collect();
    assert_eq!(names, ["A.B", "A.Both", "A.Down", "A.Up", "Debug.Health", "Debug.Stats"]);
    assert!(find("Debug.Health").metadata.is_empty() && find("Debug.Stats").request == "()");
}

#[test]
fn health_and_stats_are_methods() {
    let mut world = World::new(22);
    let mut router = echo(&world.runtime);
    router.with_debug().unwrap();
    let (client, server) = world.serve(router);
    world.sim.run(async move {
        let health = client.call::<_, Bytes>("Debug.Health", &Bytes::new()).await.unwrap();
        assert_eq!(health, "{\"status\":\"serving\"}");
        let stats = client.clone().json();
        #[derive(Deserialize)]
        struct Stats {
            started: u64,
            active: u64,
            sessions: u64,
        }
        let stats: Stats = stats.call("Debug.Stats", &()).await.unwrap();
        assert_eq!((stats.started, stats.active, stats.sessions), (2, 1, 1));
    });
    assert_eq!(server.stats().done, 2);
}

#[test]
fn health_and_stats_are_registered_both_or_neither() {
    let mut router = echo(&World::new(30).runtime);
    router.unary("Debug.Stats", |_, said: Bytes| async move { Ok(said) }).unwrap();
    let before: Vec<_> = router.endpoints().cloned().collect();
    let failed = router.with_debug().map(drop);
    assert_eq!(failed, Err(RegisterError::Duplicate("Debug.Stats".into())));
    assert!(router.endpoints().eq(&before));
}
