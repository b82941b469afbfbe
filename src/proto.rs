//! The session without IO, clock or waker: bytes and `now` in, staged bytes and events out.
//!
//! [`Core`]'s methods sort by direction: *input* (`handle_*`) takes what came from the IO or the
//! clock; *commands* are what a user does with a session or a stream; *output* (`take_output`,
//! `poll_*` and getters) is what the shell does about it. Mutate, then drain the output.
//!
//! | Room | What it is for |
//! |---|---|
//! | `input` | frames, from the header to what they change |
//! | `direct` | bodies that go from the IO to their reader, past the buffers |
//! | `commands` | open, accept, read, finish, reset, release, ping |
//! | `writing` | from a writer into the staging buffer: window, turn, frame |
//! | `output` | what is owed becomes frames; batches, events, counters |
//! | `timing` | deadlines, keepalive, stalls |
//! | `overdue` | streams that wait for the peer's ACK or FIN |
//! | `ending` | how a session ends, in which steps |
//! | `state` | the life of a stream, as one table |
//! | `stream`, `window`, `buffer`, `staging`, `batches`, `line`, `acks`, `ping`, `liveness`, `budget`, `deadline` | the parts, each with its own invariant |
//!
//! This module is public only for fuzzing and is not covered by semantic versioning.

mod acks;
mod batches;
mod budget;
mod buffer;
mod commands;
pub(crate) mod deadline;
mod direct;
mod ending;
mod event;
mod input;
mod line;
mod liveness;
mod output;
mod overdue;
mod ping;
mod staging;
mod state;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod timing;
mod window;
mod writing;

pub use commands::{Direction, Half, Read, Written};
pub use direct::LEAST_DIRECT;
pub use event::Event;
pub use output::IoStep;
pub use staging::Batch;
pub use state::{Input, State, Verdict};
pub use stats::Stats;
pub use stream::Slot;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use self::{
    acks::Acks,
    batches::Batches,
    budget::{Balance, Late, RateLimit, ReceiveBudget},
    buffer::{Buffers, ChunkQueue},
    deadline::DeadlineQueue,
    ending::Phase,
    line::Line,
    liveness::Liveness,
    overdue::{Wait, Waiting},
    ping::{Pings, RoundTrip},
    staging::Staging,
    stream::{End, Entry, Marks, Streams},
    timing::{Timeout, UserDeadlines},
    window::{Company, RecvWindow, SendWindow},
};
use crate::{
    chance::Chance,
    config::{Config, INITIAL_WINDOW, Limits},
    error::{GoAwayCode, OpenError, SessionError},
    frame::{Decoder, StreamId},
};

/// Which end of the connection this is; decides the parity of the ids it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Opens odd ids. By custom the side that connected.
    Client,
    /// Opens even ids.
    Server,
}

/// One end of a session.
#[derive(Debug)]
pub struct Core {
    role: Role,
    limits: Limits,
    /// Whether there is a timer.
    timed: bool,
    /// The beginning of the session: microseconds are counted from here.
    start: Instant,
    /// When the input that is being handled came, in microseconds.
    input_us: u64,
    phase: Phase,
    /// How the session ends, from when that is decided on.
    outcome: Option<Result<(), SessionError>>,

    streams: Streams,
    buffers: Buffers,
    /// The accept backlog.
    accept_queue: VecDeque<Slot>,
    /// The id of our next SYN.
    next_id: u32,
    /// Streams opened that have no id yet.
    unnumbered: u32,
    /// The highest id of a SYN received.
    highest_remote: u32,
    /// Streams of ours that `max_outbound_streams` counts.
    outbound: usize,
    /// Streams of the peer's that `max_streams` counts.
    inbound: usize,
    /// Places taken in the ack backlog.
    unacked: usize,
    /// Someone waits to open a stream and should be told when there is room.
    openers_wait: bool,
    late: Late,
    budget: ReceiveBudget,

    decoder: Decoder,
    receiving: Option<Receiving>,
    /// Whose body came last.
    last_body: Option<Slot>,
    company: Company,
    empty_frames: Balance,
    early_resets: RateLimit,
    /// Resets of our own, of streams that the peer had not acknowledged.
    early_resets_sent: RateLimit,
    pings: Pings,
    round_trip: RoundTrip,
    /// The peer sent GoAway(0).
    remote_gone: bool,
    /// Every further SYN of the peer's is refused.
    refuse_inbound: bool,
    eof: bool,

    staging: Staging,
    batches: Batches,
    /// Streams that owe a frame.
    owed: VecDeque<Slot>,
    /// Writers that wait for their turn.
    line: Line,
    acks: Acks,
    /// Streams that wait until what they staged is flushed.
    flush_waiters: Vec<Slot>,
    /// RSTs owed for streams that were refused, and so have no entry. A set, so that one is withdrawn
    /// without a look at all others.
    refusals: BTreeSet<StreamId>,
    /// GoAway is owed, with this code.
    go_away: Option<GoAwayCode>,

    events: VecDeque<Event>,
    /// There is something for the driver to do.
    wants_driver: bool,
    /// Streams that wait for the peer, by [what for](Wait).
    waiting: [Waiting; 2],
    deadlines: DeadlineQueue<Timeout>,
    /// What [`poll_timeout`](Self::poll_timeout) answered last.
    next_timeout: Option<Instant>,
    user_deadlines: UserDeadlines,
    liveness: Liveness,
    /// The session has fallen idle, and the shell may give back its buffers too.
    quiet: bool,
    stats: Stats,
}

impl Core {
    /// A session at its start.
    pub fn new(role: Role, config: &Config, now: Instant) -> Self {
        let limits = config.limits.clone();
        let mut chance = Chance::new(limits.seed);
        let seed = chance.next();
        let timed = config.timer.is_some();
        let liveness = Liveness::new(&limits, timed, &mut chance, now);
        Self {
            role,
            timed,
            start: now,
            input_us: 0,
            phase: Phase::Open,
            outcome: None,
            streams: Streams::new(seed),
            buffers: Buffers::new(),
            accept_queue: VecDeque::new(),
            next_id: if role == Role::Client { 1 } else { 2 },
            unnumbered: 0,
            highest_remote: 0,
            outbound: 0,
            inbound: 0,
            unacked: 0,
            openers_wait: false,
            late: Late::default(),
            budget: ReceiveBudget::new(limits.receive_budget),
            decoder: Decoder::new(),
            receiving: None,
            last_body: None,
            company: Company::new(),
            empty_frames: Balance::new(limits.max_empty_frames),
            early_resets: RateLimit::new(limits.max_early_resets, limits.early_reset_interval),
            early_resets_sent: RateLimit::new(
                limits.max_early_resets.div_ceil(EARLY_RESETS_SHARE),
                limits.early_reset_interval,
            ),
            pings: Pings::new(),
            round_trip: RoundTrip::new(),
            remote_gone: false,
            refuse_inbound: false,
            eof: false,
            staging: Staging::new(),
            batches: Batches::new(limits.staging_limit),
            owed: VecDeque::new(),
            line: Line::default(),
            acks: Acks::default(),
            flush_waiters: Vec::new(),
            refusals: BTreeSet::new(),
            go_away: None,
            events: VecDeque::new(),
            wants_driver: false,
            waiting: [limits.open_timeout, Some(limits.close_timeout)]
                .map(|limit| Waiting::new(limit, now)),
            deadlines: DeadlineQueue::new(),
            next_timeout: None,
            user_deadlines: UserDeadlines::new(),
            liveness,
            quiet: false,
            stats: Stats::default(),
            limits,
        }
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// When the session began.
    #[cfg(feature = "rpc")]
    pub(crate) const fn start(&self) -> Instant {
        self.start
    }

    #[inline]
    fn insert(&mut self, id: u32, state: State, marks: Marks) -> Slot {
        let mut limit = INITIAL_WINDOW;
        let extra = (self.limits.stream_window - INITIAL_WINDOW) as usize;
        if self.budget.charge(extra) {
            limit = self.limits.stream_window;
        }
        self.streams.insert(Entry {
            id,
            state,
            marks: marks.with(Marks::COUNTED),
            send: SendWindow::initial(),
            recv: RecvWindow::new(limit),
            chunks: ChunkQueue::EMPTY,
            end: End::None,
            staged_in: self.batches.flushed(),
            waits_since: [0; 2],
            next: 0,
        })
    }

    /// Puts a stream on the list of those that owe the peer a frame.
    fn owe(&mut self, slot: Slot, mark: Marks) {
        let marks = &mut self.streams[slot].marks;
        marks.set(mark);
        if !marks.any(Marks::IN_OWED) {
            marks.set(Marks::IN_OWED);
            self.owed.push_back(slot);
        }
        self.wants_driver = true;
    }

    /// Ends a stream before its time, and tells the peer unless the peer began it.
    fn end_stream(&mut self, slot: Slot, end: End) {
        let entry = &mut self.streams[slot];
        if entry.state == State::Reset {
            return;
        }
        let never_sent = entry.marks.any(Marks::OWES_SYN);
        entry.state = State::Reset;
        entry.end = end;
        entry
            .marks
            .clear(Marks::OWES.with(Marks::OWES_ACK).with(Marks::OWES_CREDIT).with(Marks::TURN));
        if never_sent {
            self.unnumbered -= 1;
        }
        if !never_sent && matches!(end, End::Local(_) | End::User(_)) {
            self.owe(slot, Marks::OWES_RST);
        }
        if !self.streams[slot].marks.any(Marks::OWES_RST) {
            self.unlink(slot);
        }
        self.wake_stream(slot);
        self.stop_receiving(slot);
    }

    /// The wire is done with a stream: later frames for its id are late frames.
    fn unlink(&mut self, slot: Slot) {
        self.release_permit(slot);
        let entry = &mut self.streams[slot];
        if entry.marks.take(Marks::AWAITS_FIN) {
            self.waiting[Wait::Fin as usize].leave();
        }
        let linked = entry.marks.take(Marks::LINKED);
        let (credit, done) = (entry.recv.credit(), entry.counts_no_more());
        if linked {
            self.late.expect(credit);
            self.streams.unlink(slot);
        }
        if done {
            self.uncount(slot);
        }
    }

    fn stop_receiving(&mut self, slot: Slot) {
        if self.receiving.is_some_and(|receiving| receiving.slot == slot) {
            self.receiving = None;
        }
    }

    fn wake_stream(&mut self, slot: Slot) {
        self.wake_reader(slot);
        self.wake_writer(slot);
    }

    fn wake_reader(&mut self, slot: Slot) {
        if self.streams[slot].marks.take(Marks::READ_WAIT) {
            self.events.push_back(Event::Readable(slot));
        }
    }

    fn wake_writer(&mut self, slot: Slot) {
        if self.streams[slot].marks.take(Marks::WRITE_WAIT) {
            self.events.push_back(Event::Writable(slot));
        }
    }

    /// The peer knows the stream, or it is gone: its place in the ack backlog is free.
    #[inline]
    fn release_permit(&mut self, slot: Slot) {
        if self.streams[slot].marks.any(Marks::PERMIT) {
            self.take_permit(slot);
        }
    }

    fn take_permit(&mut self, slot: Slot) {
        let marks = &mut self.streams[slot].marks;
        if marks.take(Marks::AWAITS_ACK) {
            self.waiting[Wait::Ack as usize].leave();
        }
        if marks.take(Marks::UNACKED) {
            if marks.any(Marks::OWES_RST) {
                self.owe(slot, Marks::OWES_RST);
            }
            self.unacked -= 1;
            self.tell_openers();
        }
    }

    fn tell_openers(&mut self) {
        if self.openers_wait {
            self.openers_wait = false;
            self.events.push_back(Event::Openable);
        }
    }

    /// A stream counts while it is live, and after that while it holds unread bytes
    /// (`spec.md §4.4.4`); its window takes from the budget only while it is live (`§5.6.2`).
    #[inline]
    fn uncount_if_done(&mut self, slot: Slot) {
        if self.streams[slot].counts_no_more() {
            self.uncount(slot);
        }
    }

    fn uncount(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        self.budget.extra_credit -= entry.recv.give_back();
        if !entry.chunks.is_empty() {
            return;
        }
        entry.marks.clear(Marks::COUNTED);
        if entry.marks.any(Marks::OUTBOUND) {
            self.outbound -= 1;
            self.tell_openers();
        } else {
            self.inbound -= 1;
        }
    }

    /// Removes a stream that nobody holds and that owes nothing.
    #[inline]
    fn forget_if_over(&mut self, slot: Slot) {
        if self.streams[slot].is_over() {
            self.forget(slot);
        }
    }

    #[inline]
    fn forget(&mut self, slot: Slot) {
        let entry = &self.streams[slot];
        let (ties, unread) = (entry.marks.any(Marks::TIES), !entry.chunks.is_empty());
        if ties {
            self.unlink(slot);
        }
        if unread {
            self.drop_unread(slot);
        }
        self.stop_receiving(slot);
        for _ in 0..self.user_deadlines.take_both(slot) {
            self.deadlines.cancelled();
        }
        self.streams.remove(slot);
        // The last stream may be what an end waits for.
        self.wants_driver |= !matches!(self.phase, Phase::Open);
    }

    #[inline]
    fn drop_chunks(&mut self, slot: Slot) {
        if !self.streams[slot].chunks.is_empty() {
            self.drop_unread(slot);
        }
    }

    fn drop_unread(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        let dropped = self.buffers.clear(&mut entry.chunks);
        self.budget.buffered -= dropped;
        entry.recv.consume(dropped);
        self.uncount_if_done(slot);
    }

    /// Why nothing more can be done with an ended session.
    pub(crate) fn session_error(&self) -> SessionError {
        self.outcome.and_then(Result::err).unwrap_or(SessionError::Closed)
    }

    fn open_error(&self) -> Option<OpenError> {
        if self.outcome.is_some() {
            return Some(OpenError::Session(self.session_error()));
        }
        if self.remote_gone {
            return Some(OpenError::RemoteGoAway);
        }
        if self.refuse_inbound || !matches!(self.phase, Phase::Open) {
            return Some(OpenError::Closing);
        }
        None
    }

    /// Whether an id is one that this side assigns.
    const fn is_ours(&self, id: u32) -> bool {
        (id % 2 == 1) == matches!(self.role, Role::Client)
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// The largest window in use where bulk is to leave room for short messages of others.
    fn in_company(&self) -> Option<u32> {
        let company = self.company.is_there(self.input_us) && self.round_trip.is_short();
        company.then_some(self.limits.stream_window)
    }

    const fn tunes_windows(&self) -> bool {
        self.timed && self.limits.max_stream_window > self.limits.stream_window
    }
}

/// The body that is arriving.
#[derive(Clone, Copy, Debug)]
struct Receiving {
    slot: Slot,
    fin: bool,
    /// The one before was of another stream.
    mixed: bool,
}

/// A body that somebody may wait for is no longer than this: written, it overtakes bulk.
const SHORT: usize = 1 << 10;

/// This side sends at most one in so many of the early resets that the peer would count as a flood,
/// if it has the limit that we have (`spec.md §9.2.5`).
const EARLY_RESETS_SHARE: u32 = 3;
