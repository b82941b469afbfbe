//! Middleware: layers from `tower`, and of one's own, around clients, attempts and routers.
#![allow(clippy::unwrap_used)]

#[path = "support/calls.rs"]
mod calls;
mod support;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use calls::{World, chat, echo, say};
use futures::future::BoxFuture;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
};
use trunkline::rpc::{
    Body, BoxError, Calls, Client, ClientBuilder, Code, Fixed, Node, Request, Response, Retryable,
    Router, Server, Stack, Status,
};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes what goes in and out.
#[derive(Clone)]
struct Trace {
    name: &'static str,
    log: Log,
}

impl<S> Layer<S> for Trace {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, name: self.name, log: self.log.clone() }
    }
}

#[derive(Clone)]
struct Traced<S> {
    inner: S,
    name: &'static str,
    log: Log,
}

impl<S> Service<Request> for Traced<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (name, log) = (self.name, self.log.clone());
        log.lock().unwrap().push(format!("{name}-in"));
        let inner = self.inner.call(request);
        Box::pin(async move {
            let outcome = inner.await.map_err(Into::into);
            log.lock().unwrap().push(format!("{name}-out"));
            outcome
        })
    }
}

fn trace(name: &'static str, log: &Log) -> Trace {
    Trace { name, log: log.clone() }
}

const IN_ORDER: [&str; 4] = ["A-in", "B-in", "B-out", "A-out"];

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn the_first_layer_of_a_server_is_outermost_whatever_is_called() {
    let mut world = World::new(1);
    let log = Log::default();
    let router = echo(&world.runtime);
    let layered = Stack::new().layer(trace("A", &log)).layer(trace("B", &log));
    let (client, _) = world.serve(Layer::layer(&layered, router));
    let seen = log.clone();
    world.sim.run(async move {
        say(&client, "x").await.unwrap();
        assert_eq!(take(&seen), IN_ORDER);
        let failed = client.call::<_, Bytes>("Echo.Unknown", &Bytes::new()).await.unwrap_err();
        assert_eq!(
            (failed.code(), take(&seen)),
            (Code::Unimplemented, IN_ORDER.map(str::to_owned).to_vec())
        );
        chat(&client, 3).await;
        assert_eq!(take(&seen), IN_ORDER);
    });
}

#[test]
fn a_router_of_ones_own_takes_layers_too() {
    let mut world = World::new(2);
    let log = Log::default();
    let own = tower::service_fn(|request: Request| async move {
        match request.method.as_str() {
            "Echo.Say" => Ok(Response::new(Body::single("own"))),
            "Echo.Chat" => Ok(Response::new(request.body)),
            other => Err(Status::new(Code::Unimplemented, format!("own, and not {other}"))),
        }
    });
    let layered =
        ServiceBuilder::new().layer(trace("A", &log)).layer(trace("B", &log)).service(own);
    let (client, _) = world.serve(layered);
    world.sim.run(async move {
        assert_eq!(say(&client, "x").await.unwrap(), "own");
        assert_eq!(take(&log), IN_ORDER);
        let failed = client.call::<_, Bytes>("Echo.Unknown", &Bytes::new()).await.unwrap_err();
        assert_eq!(failed.message(), "own, and not Echo.Unknown");
        assert_eq!(take(&log), IN_ORDER);
        chat(&client, 3).await;
        assert_eq!(take(&log), IN_ORDER);
    });
}

#[test]
fn layers_of_a_client_are_around_calls_and_attempts() {
    let mut world = World::new(3);
    let (calls, attempts) = (Log::default(), Log::default());
    // Nobody is at home.
    let refuse = |_: &Node| std::future::ready(Err::<trunkline::Session, _>("refused"));
    let client = ClientBuilder::new(&world.runtime, refuse).resolve(Fixed::new(["a"]));
    let client = client
        .build_with_attempts(
            &Stack::new().layer(trace("A", &attempts)).layer(trace("B", &attempts)),
        )
        .retries(2)
        .layer(&Stack::new().layer(trace("A", &calls)).layer(trace("B", &calls)));
    let failed = world.sim.run(async move {
        client.call::<_, Bytes>("Echo.Say", &Bytes::from("x")).await.unwrap_err()
    });
    assert_eq!(failed.code(), Code::Unavailable);
    // spec.md §15.7: once per call, and once per attempt.
    assert_eq!(take(&calls), IN_ORDER);
    assert_eq!(take(&attempts), [IN_ORDER; 3].concat());
}

#[test]
fn layers_of_a_client_see_streaming_calls() {
    let mut world = World::new(4);
    let log = Log::default();
    let router = echo(&world.runtime);
    let (client, _) = world.serve(router);
    let client = client.layer(&Stack::new().layer(trace("A", &log)).layer(trace("B", &log)));
    world.sim.run(async move {
        chat(&client, 10).await;
    });
    assert_eq!(take(&log), IN_ORDER);
}

#[test]
fn towers_concurrency_limit_bounds_a_client() {
    let mut world = World::new(5);
    let router = echo(&world.runtime);
    let (client, server) = world.serve(router);
    let client =
        client.layer(&ConcurrencyLimitLayer::new(2)).timeout(Some(Duration::from_secs(250)));
    for _ in 0..6 {
        let client = client.clone();
        world.sim.spawn(async move { client.call::<_, Bytes>("Echo.Slow", &Bytes::new()).await });
    }
    world.sim.advance(Duration::from_secs(10));
    assert_eq!(server.stats().active, 2);
    world.sim.advance(Duration::from_secs(200));
    assert_eq!((server.stats().active, server.stats().done), (2, 2));
}

#[test]
fn a_call_that_is_not_let_in_waits_no_longer_than_its_deadline() {
    // spec.md §15.6.4
    let mut world = World::new(9);
    let server = Server::new(echo(&world.runtime), &world.runtime);
    let whole = world.connect(&server).layer(&ConcurrencyLimitLayer::new(1));
    let (near, far) = world.pair();
    world.runtime.spawn(server.serve(far));
    let connect = move |_: &Node| std::future::ready(Ok::<_, BoxError>(near.clone()));
    let each = ClientBuilder::new(&world.runtime, connect).resolve(Fixed::new(["a"]));
    let each = each.build_with_attempts(&ConcurrencyLimitLayer::new(1));
    waits_in_vain(&mut world, whole);
    waits_in_vain(&mut world, each);
    assert_eq!(server.stats().started, 2, "the others were not sent");
}

/// A client that makes one call at a time, and another call.
fn waits_in_vain<C: Calls>(world: &mut World, client: Client<C>) {
    let first = client.clone();
    world.sim.spawn(async move {
        let call = first.request("Echo.Never").timeout(None);
        call.call::<_, Bytes>(&Bytes::new()).await
    });
    world.sim.settle();
    let second = world.sim.spawn(async move {
        let call = client.request("Echo.Say").timeout(Some(Duration::from_secs(2)));
        call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err()
    });
    world.sim.advance(Duration::from_millis(1_999));
    assert!(!second.is_ready());
    world.sim.advance(Duration::from_millis(2));
    let failed = second.take().expect("it waits on");
    assert_eq!((failed.code(), failed.retryable()), (Code::Timeout, Retryable::Always));
}

#[test]
fn towers_load_shedding_turns_calls_away() {
    let mut world = World::new(6);
    let router = echo(&world.runtime);
    let shedding = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(router);
    let (client, server) = world.serve(shedding);
    let slow = client.clone();
    world.sim.spawn(async move { slow.call::<_, Bytes>("Echo.Never", &Bytes::new()).await });
    world.sim.settle();
    let failed = world.sim.run(async move { say(&client, "x").await.unwrap_err() });
    assert_eq!((failed.code(), failed.is_remote()), (Code::Declined, true));
    assert_eq!(server.stats().active, 1);
}

#[test]
fn a_client_and_a_router_are_services() {
    let mut world = World::new(7);
    let mut router = Router::bytes();
    router.unary("A.B", |_, said: Bytes| async move { Ok(said) }).unwrap();
    let (client, _) = world.serve(router.clone());
    // A client as the service of another server: a proxy.
    let (outer, _) = world.serve(client);
    let heard = world.sim.run(async move {
        let body = Body::single("through two");
        let response = outer.oneshot(Request::new("A.B", body)).await.unwrap();
        response.body.into_single().unwrap()
    });
    assert_eq!(heard, "through two");
    let _: Pin<Box<dyn Service<Request, Response = Response, Error = Status, Future = _>>> =
        Box::pin(router);
}

#[test]
fn a_layer_may_answer_itself_or_fail() {
    let mut world = World::new(8);
    let guarded = ServiceBuilder::new()
        .filter(|request: Request| match request.metadata.text("token") {
            Some("secret") => Ok(request),
            Some(_) => Err(BoxError::from(Status::new(Code::Forbidden, "wrong token"))),
            None => Err(BoxError::from("no token")),
        })
        .service(echo(&world.runtime));
    let server = Server::new(guarded, &world.runtime);
    let client = world.connect(&server);
    world.sim.run(async move {
        let failed = say(&client, "x").await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::Declined, "no token"));
        let call = client.request("Echo.Say").metadata("token", "guess");
        let failed = call.call::<_, Bytes>(&Bytes::new()).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::Forbidden, "wrong token"));
        let call = client.request("Echo.Say").metadata("token", "secret");
        assert!(call.call::<_, Bytes>(&Bytes::new()).await.is_ok());
    });
}
