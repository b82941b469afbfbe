//! `service Echo { rpc Say(Body) returns (Body); rpc Flow(Body) returns (stream Body); }`

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body as HttpBody,
    client::Grpc as ClientGrpc,
    codegen::{BoxFuture, Service, http},
    server::{Grpc as ServerGrpc, NamedService, ServerStreamingService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) body: Bytes,
}

#[derive(Clone)]
pub(crate) struct EchoClient {
    inner: ClientGrpc<Channel>,
}

impl EchoClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { inner: ClientGrpc::new(channel) }
    }

    pub(crate) async fn say(&mut self, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.inner.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/Echo/Say");
        self.inner.unary(request, path, ProstCodec::<Body, Body>::default()).await
    }

    pub(crate) async fn flow(
        mut self,
        request: Request<Body>,
    ) -> Result<Response<Streaming<Body>>, Status> {
        self.inner.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/Echo/Flow");
        self.inner.server_streaming(request, path, ProstCodec::<Body, Body>::default()).await
    }
}

#[derive(Clone)]
pub(crate) struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "Echo";
}

impl Service<http::Request<HttpBody>> for EchoServer {
    type Response = http::Response<HttpBody>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<HttpBody>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = ServerGrpc::new(ProstCodec::<Body, Body>::default());
            Ok(match request.uri().path() {
                "/Echo/Say" => grpc.unary(Say, request).await,
                "/Echo/Flow" => grpc.server_streaming(Flow, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct Say;

impl UnaryService<Body> for Say {
    type Response = Body;
    type Future = Ready<Result<Response<Body>, Status>>;

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

struct Flow;

impl ServerStreamingService<Body> for Flow {
    type Response = Body;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Body, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let size = request.into_inner().body;
        let size = size.first_chunk().map_or(0, |size| u32::from_be_bytes(*size));
        let message = Body { body: BytesMut::zeroed(size as usize).freeze() };
        let messages = stream::iter((0..side::ENDLESS).map(move |_| Ok(message.clone())));
        ready(Ok(Response::new(Box::pin(messages) as Self::ResponseStream)))
    }
}
