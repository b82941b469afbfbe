//! The messages of a call as bytes, made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use trunkline::{
    exchange::{Kind, Message, encode},
    rpc::wire::{RequestHead, ResponseHead},
};

pub fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
    timed(kind, body, None)
}

/// What stands before the body of a request.
pub fn head(method: &'static str) -> Vec<u8> {
    let mut head = Vec::new();
    RequestHead { method: method.into(), ..RequestHead::default() }.encode(&mut head).unwrap();
    head
}

/// A request without a body.
pub fn request(method: &'static str, ttl: Option<u32>) -> Vec<u8> {
    timed(Kind::Request, &head(method), ttl)
}

/// An answer that says that all went well.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    ResponseHead::default().encode(&mut head).unwrap();
    message(Kind::Response, &[&head[..], body].concat())
}

fn timed(kind: Kind, body: &[u8], ttl: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&Message::new(kind, body.to_vec()), ttl, 1 << 20, &mut bytes);
    bytes
}
