//! A message on its way out.

use std::{
    cell::Cell,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    Kind,
    codec::{HEADER, TTL, leave_header, patch_header, put_header},
};
use crate::{Protocol, StreamError, stream::Sink};

/// A message that is being written: what precedes it, its header, and the part of the body that is
/// made for it.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    message: &'a mut Outgoing,
    header: usize,
    body: usize,
    ttl: Option<u32>,
}

impl Draft<'_> {
    /// What is made for the body goes behind what is there.
    pub(crate) const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.message.head
    }

    /// How long the body is by now.
    pub(crate) const fn len(&self) -> usize {
        self.message.head.len() - self.body
    }

    /// Copies a payload of somebody else's if it is short; else this is what to [`end`](Self::end)
    /// with. To share a short one would cost more.
    #[cfg(feature = "rpc")]
    pub(crate) fn take_from(&mut self, payload: &Bytes) -> Bytes {
        if payload.len() > COPIED {
            return payload.clone();
        }
        self.bytes().extend_from_slice(payload);
        Bytes::new()
    }

    /// `payload` follows what was written; `finish`: FIN follows that.
    pub(crate) fn end(mut self, kind: Kind, mut payload: Bytes, fragment: usize, finish: bool) {
        if self.len() + payload.len() > fragment {
            if self.len() > fragment {
                // Rare: what was made is itself too long for a fragment.
                let mut whole = self.message.head.split_off(self.body);
                whole.extend_from_slice(&payload);
                payload = whole.into();
            }
            let bytes = payload.split_off(fragment - self.len());
            self.message.rest = Some(Box::new(Rest { bytes, kind, fragment }));
        }
        let len = self.len() + payload.len();
        if (1..=COPIED).contains(&payload.len()) {
            self.bytes().extend_from_slice(&payload);
        } else {
            self.message.body = payload;
        }
        let more = self.message.rest.is_some();
        patch_header(&mut self.message.head[self.header..], kind, more, self.ttl.is_some(), len);
        self.message.finish = finish;
    }
}

thread_local! {
    /// The buffer of the last message that this thread sent: most are staged where they are made.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A longer buffer is not kept.
const MAX_SPARE: usize = 4 << 10;

/// What names the protocol, in front of a first message.
const PREFACE: usize = Protocol::EXCHANGE.preface().len();

/// Bodies up to this size are copied behind their header.
const COPIED: usize = 2_048;

/// A message on its way out, fragment by fragment.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Vec<u8>,
    sent: usize,
    body: Bytes,
    rest: Option<Box<Rest>>,
    finish: bool,
}

/// What follows the fragment that is being staged; never empty.
#[derive(Debug)]
struct Rest {
    bytes: Bytes,
    kind: Kind,
    fragment: usize,
}

impl Outgoing {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self { head: Vec::new(), sent: 0, body: Bytes::new(), rest: None, finish: false }
    }

    /// Nothing but FIN.
    pub(crate) fn finish() -> Self {
        Self { finish: true, ..Self::new() }
    }

    /// Begins a message; the one before was sent, discarded or never ended. With room for so much
    /// that is made, and for a payload of so many bytes if it is short.
    pub(crate) fn draft(
        &mut self,
        preface: &[u8],
        ttl: Option<u32>,
        made: usize,
        payload: usize,
    ) -> Draft<'_> {
        debug_assert!(self.rest.is_none() && self.body.is_empty(), "half of a message is sent");
        self.sent = 0;
        self.head.clear();
        if self.head.capacity() == 0 {
            self.head = SPARE.try_with(Cell::take).unwrap_or_default();
        }
        let copied = if payload <= COPIED { payload } else { 0 };
        self.head.reserve(preface.len() + HEADER + TTL + made + copied);
        self.head.extend_from_slice(preface);
        leave_header(&mut self.head, ttl);
        Draft { header: preface.len(), body: self.head.len(), message: self, ttl }
    }

    /// What to stage next: a head, a body, and whether FIN follows.
    pub(crate) fn parts(&mut self) -> (&[u8], &mut Bytes, bool) {
        (&self.head[self.sent..], &mut self.body, self.finish && self.rest.is_none())
    }

    /// So much of the head is still to be staged.
    pub(crate) const fn head_left(&mut self, left: usize) {
        self.sent = self.head.len() - left;
    }

    /// Stages all of it. Nothing is lost or doubled when it is polled again.
    pub(crate) fn poll(
        &mut self,
        stream: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        loop {
            let (mut head, body, finish) = self.parts();
            let staged = stream.poll_stage(cx, &mut head, body, finish);
            let left = head.len();
            self.head_left(left);
            match staged {
                Poll::Ready(Ok(())) if self.next_fragment() => {}
                staged => return staged,
            }
        }
    }

    /// Makes the next fragment of what is left, once all before was staged; false if nothing is.
    pub(crate) fn next_fragment(&mut self) -> bool {
        let Some(rest) = &mut self.rest else {
            self.give_back();
            return false;
        };
        self.body = rest.bytes.split_to(rest.bytes.len().min(rest.fragment));
        self.head.clear();
        self.sent = 0;
        let more = !rest.bytes.is_empty();
        put_header(&mut self.head, rest.kind, more, None, self.body.len());
        if !more {
            self.rest = None;
        }
        true
    }

    /// Another time to live, in the first message of an exchange that is still to be opened.
    pub(crate) fn set_ttl(&mut self, ttl: u32) {
        if let Some(at) = self.head.get_mut(PREFACE + HEADER..PREFACE + HEADER + TTL) {
            at.copy_from_slice(&ttl.to_be_bytes());
        }
    }

    /// Nothing of it was staged, and it is not wanted as it is.
    #[cold]
    #[cfg(feature = "rpc")]
    pub(crate) fn discard(&mut self) {
        self.give_back();
        *self = Self::new();
    }

    /// The next message is made in the buffer of this one.
    #[inline]
    fn give_back(&mut self) {
        self.sent = 0;
        let mut head = std::mem::take(&mut self.head);
        if (1..=MAX_SPARE).contains(&head.capacity()) {
            head.clear();
            // Not where the thread is just ending.
            let _ = SPARE.try_with(|spare| spare.set(head));
        }
    }
}
