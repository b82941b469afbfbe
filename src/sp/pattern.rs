//! What every pattern stands on: a table of pipes, deadlines, and whom to wake after the lock.
//! Nothing in here does IO or looks at a clock.

use std::{
    collections::HashMap,
    task::{Context, Waker},
    time::Instant,
};

use bytes::Bytes;
use nohash_hasher::BuildNoHashHasher;

use super::{
    error::PipeError,
    events::{News, PipeEvent},
    message::Message,
    options::Options,
    pipe::Pipe,
    protocol::Info,
    stats::Stats,
    wire::Outbox,
};
use crate::{chance::Chance, proto::deadline::DeadlineQueue, transport::Framing};

/// The rules of one kind of socket, as a state machine: pipes come and go, messages come in, time
/// passes. What is to be sent is pushed to the pipes in [`Base`].
pub(crate) trait Pattern: Sized + Send + 'static {
    /// What the pattern keeps for each pipe.
    type Pipe: Default + Send;
    /// What a deadline is for.
    type Due: Copy + Send;

    /// What the socket speaks.
    const INFO: Info;

    /// A pipe came; `false` refuses it.
    fn add_pipe(&mut self, base: &mut Base<Self>, id: u32) -> bool;

    /// A pipe that was added is gone. Comes once, after its connection was closed.
    fn remove_pipe(&mut self, base: &mut Base<Self>, id: u32, pipe: Self::Pipe);

    /// A pipe has become free to take more.
    fn handle_room(&mut self, base: &mut Base<Self>, id: u32);

    /// A message came. One that cannot be taken now is given back, and comes again.
    fn handle_message(
        &mut self,
        base: &mut Base<Self>,
        id: u32,
        message: Bytes,
    ) -> Result<(), Bytes>;

    /// Whether the pipe should be read from. Who makes this true wakes the pipe.
    fn wants(&self, base: &Base<Self>, id: u32) -> bool;

    /// A deadline passed, unless it has lost its meaning.
    fn handle_timeout(&mut self, base: &mut Base<Self>, due: Self::Due);

    /// Nothing may begin any more; who waits is told.
    fn close(&mut self, base: &mut Base<Self>);

    /// Whether something still waits for a pipe to take it.
    fn has_backlog(&self) -> bool {
        false
    }
}

/// What the patterns have in common.
pub(crate) struct Base<P: Pattern> {
    pub(crate) now: Instant,
    pub(crate) options: Options,
    pub(crate) pipes: Pipes<P::Pipe>,
    pub(crate) deadlines: DeadlineQueue<P::Due>,
    pub(crate) stats: Stats,
    pub(crate) wakes: Wakes,
    pub(crate) closing: bool,
    /// What subscribers are to be told after the lock.
    pub(crate) news: Vec<News>,
}

impl<P: Pattern> Base<P> {
    pub(crate) fn new(now: Instant, options: Options) -> Self {
        let mut chance = Chance::new(options.seed());
        Self {
            now,
            options,
            pipes: Pipes::new(chance.next() as u32),
            deadlines: DeadlineQueue::new(),
            stats: Stats::default(),
            wakes: Wakes::default(),
            closing: false,
            news: Vec::new(),
        }
    }

    pub(crate) fn emit(&mut self, event: PipeEvent) {
        self.news.push(News::Event(event));
    }

    /// Puts a message on a pipe and wakes its task. The pipe must be there.
    pub(crate) fn push(&mut self, id: u32, header: &[u8], body: &Bytes) {
        if let Some(entry) = self.pipes.get_mut(id) {
            entry.outbox.push(header, body);
            self.stats.sent += 1;
            self.wakes.wake(entry.waker.take());
        }
    }

    /// Wakes a pipe's task, so that it reads on.
    pub(crate) fn resume(&mut self, id: u32) {
        if let Some(entry) = self.pipes.get_mut(id) {
            self.wakes.wake(entry.waker.take());
        }
    }
}

/// The pipes of a socket by number.
pub(crate) struct Pipes<T> {
    by_id: HashMap<u32, Entry<T>, BuildNoHashHasher<u32>>,
    attached: usize,
    last: u32,
}

/// One pipe.
pub(crate) struct Entry<T> {
    pub(crate) pipe: Pipe,
    pub(crate) outbox: Outbox,
    pub(crate) data: T,
    /// The IO does not take what it was given.
    pub(crate) blocked: bool,
    /// The pattern knows it.
    pub(crate) attached: bool,
    /// Its task is to end, and why.
    pub(crate) stop: Option<PipeError>,
    /// Present while its task sleeps.
    pub(crate) waker: Option<Waker>,
}

impl<T> Entry<T> {
    /// Whether another message may wait for its IO.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < self.pipe.options().send_buffer()
    }

    /// Whether another message may go out at once, as far as one can tell.
    pub(crate) fn is_free(&self) -> bool {
        !self.blocked && self.has_room()
    }
}

impl<T: Default> Pipes<T> {
    pub(crate) fn new(start: u32) -> Self {
        Self { by_id: HashMap::default(), attached: 0, last: start & MASK }
    }

    /// A number that is free: 31 bits, never 0. There are fewer pipes than numbers.
    pub(crate) fn next_id(&mut self) -> u32 {
        loop {
            self.last = (self.last + 1) & MASK;
            if self.last != 0 && !self.by_id.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    pub(crate) fn insert(&mut self, pipe: Pipe, framing: Framing) {
        let entry = Entry {
            outbox: Outbox::new(framing),
            data: T::default(),
            blocked: false,
            attached: false,
            stop: None,
            waker: None,
            pipe,
        };
        self.by_id.insert(entry.pipe.id(), entry);
    }

    pub(crate) fn attach(&mut self, id: u32) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.attached = true;
            self.attached += 1;
        }
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Entry<T>> {
        let entry = self.by_id.remove(&id);
        self.attached -= usize::from(entry.as_ref().is_some_and(|entry| entry.attached));
        entry
    }
}

impl<T> Pipes<T> {
    pub(crate) fn get(&self, id: u32) -> Option<&Entry<T>> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Entry<T>> {
        self.by_id.get_mut(&id)
    }

    /// The very pipe, not one that has its number now.
    pub(crate) fn find(&mut self, pipe: &Pipe) -> Option<&mut Entry<T>> {
        self.by_id.get_mut(&pipe.id()).filter(|entry| entry.pipe.same(pipe))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.by_id.values_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.by_id.values()
    }

    /// Those in the making included.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) const fn attached(&self) -> usize {
        self.attached
    }
}

const MASK: u32 = 0x7fff_ffff;

/// What is to be woken, and what let go, when the lock is released: either may run code of the
/// user's.
#[derive(Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    more: Vec<Waker>,
    old: Vec<Waker>,
    body: Option<Bytes>,
    bodies: Vec<Bytes>,
    messages: Vec<Message>,
}

impl Wakes {
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        match &self.first {
            None => self.first = Some(waker),
            Some(_) => self.more.push(waker),
        }
    }

    /// Notes who is to be woken next time, and lets the one before go.
    pub(crate) fn register(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if slot.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.old.extend(slot.replace(cx.waker().clone()));
        }
    }

    pub(crate) fn let_go(&mut self, waker: Option<Waker>) {
        self.old.extend(waker);
    }

    pub(crate) fn discard(&mut self, body: Bytes) {
        match &self.body {
            None => self.body = Some(body),
            Some(_) => self.bodies.push(body),
        }
    }

    pub(crate) fn discard_message(&mut self, message: Message) {
        self.messages.push(message);
    }

    pub(crate) fn fire(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
        }
        self.more.drain(..).for_each(Waker::wake);
        self.body = None;
        self.old.clear();
        self.bodies.clear();
        self.messages.clear();
    }
}
