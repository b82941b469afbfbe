//! Typed handlers, as functions from requests to answers.

use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};

use super::{
    Body, Code, Context, Receiver, Request, Response, Status, Text,
    call::{Side, decode},
    codec::{Codec, Decode, Encode, agree},
    message::Outcome,
};

/// What a method does.
pub(crate) type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Outcome> + Send + Sync>;

pub(crate) fn unary<K, Req, Resp, F, Fut>(codec: K, handler: F) -> Handler
where
    K: Decode<Req> + Encode<Resp>,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp, Status>> + Send + 'static,
    Req: Send + 'static,
    Resp: Send + Sync + 'static,
{
    Arc::new(move |request| {
        let begun = Opened::new(&codec, request).and_then(|call| {
            let bytes = call.body.into_single()?;
            let method = &call.context.method;
            let message = decode(&codec, &call.content_type, bytes, Side::Request, method)?;
            Ok((handler(call.context, message), call.answer_type))
        });
        let (answer, content_type) = match begun {
            Ok(begun) => begun,
            Err(status) => return Box::pin(std::future::ready(Err(status))),
        };
        // Neither the request nor the handler's future is kept twice, as an async block would.
        let codec = codec.clone();
        Box::pin(answer.map(move |answer| {
            let body = Body::single(encode(&codec, &content_type, answer?)?);
            Ok(Response { content_type, ..Response::new(body) })
        }))
    })
}

pub(crate) fn client_streaming<K, Req, Resp, F, Fut>(codec: K, handler: F) -> Handler
where
    K: Decode<Req> + Encode<Resp>,
    F: Fn(Context, Receiver<Req, K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Resp, Status>> + Send + 'static,
    Req: Send + 'static,
    Resp: Send + Sync + 'static,
{
    let shared = Arc::new((codec, handler));
    Arc::new(move |request| {
        let shared = shared.clone();
        Box::pin(async move {
            let (codec, handler) = &*shared;
            let Opened { context, content_type, answer_type, body } = Opened::new(codec, request)?;
            let method = context.method.clone();
            let messages = Receiver::of_request(codec.clone(), method, content_type, body);
            let answer = handler(context, messages).await?;
            let body = Body::single(encode(codec, &answer_type, answer)?);
            Ok(Response { content_type: answer_type, ..Response::new(body) })
        })
    })
}

pub(crate) fn server_streaming<K, Req, Resp, F, Fut, S>(codec: K, handler: F) -> Handler
where
    K: Decode<Req> + Encode<Resp>,
    F: Fn(Context, Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, Status>> + Send + 'static,
    S: Stream<Item = Result<Resp, Status>> + Send + 'static,
    Req: Send + 'static,
    Resp: Send + Sync + 'static,
{
    let shared = Arc::new((codec, handler));
    Arc::new(move |request| {
        let shared = shared.clone();
        Box::pin(async move {
            let (codec, handler) = &*shared;
            let call = Opened::new(codec, request)?;
            let bytes = call.body.into_single()?;
            let method = &call.context.method;
            let message = decode(codec, &call.content_type, bytes, Side::Request, method)?;
            let messages = handler(call.context, message).await?;
            Ok(streamed(codec.clone(), call.answer_type, messages))
        })
    })
}

pub(crate) fn bidirectional<K, Req, Resp, F, Fut, S>(codec: K, handler: F) -> Handler
where
    K: Decode<Req> + Encode<Resp>,
    F: Fn(Context, Receiver<Req, K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, Status>> + Send + 'static,
    S: Stream<Item = Result<Resp, Status>> + Send + 'static,
    Req: Send + 'static,
    Resp: Send + Sync + 'static,
{
    let shared = Arc::new((codec, handler));
    Arc::new(move |request| {
        let shared = shared.clone();
        Box::pin(async move {
            let (codec, handler) = &*shared;
            let Opened { context, content_type, answer_type, body } = Opened::new(codec, request)?;
            let method = context.method.clone();
            let messages = Receiver::of_request(codec.clone(), method, content_type, body);
            let answers = handler(context, messages).await?;
            Ok(streamed(codec.clone(), answer_type, answers))
        })
    })
}

/// A request of which the content types are agreed on.
struct Opened {
    context: Context,
    content_type: Text,
    answer_type: Text,
    body: Body,
}

impl Opened {
    fn new(codec: &impl Codec, request: Request) -> Result<Self, Status> {
        let Request { content_type, accept, method, metadata, call, body, .. } = request;
        let content_type = agree(codec, &content_type)?;
        let answer_type =
            if accept.is_empty() { content_type.clone() } else { agree(codec, &accept)? };
        let Some(call) = call else {
            return Err(Status::new(Code::Internal, "the request has no context"));
        };
        let context = Context::new(method, metadata, call);
        Ok(Self { context, content_type, answer_type, body })
    }
}

fn streamed<K, T, S>(codec: K, content_type: Text, messages: S) -> Response
where
    K: Encode<T>,
    T: Send + Sync + 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    let encoding = content_type.clone();
    let body = messages.map(move |message| encode(&codec, &encoding, message?));
    Response { content_type, ..Response::new(Body::stream(body)) }
}

fn encode<K: Encode<T>, T>(
    codec: &K,
    content_type: &str,
    message: T,
) -> Result<bytes::Bytes, Status> {
    codec.encode_owned(content_type, message).map_err(|error| {
        // The caller is not told more than that.
        log::debug!("an answer cannot be encoded as {content_type}: {error}");
        Status::new(Code::Internal, "the answer cannot be encoded").with_source(error)
    })
}
