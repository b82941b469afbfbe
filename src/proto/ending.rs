//! How a session ends (`spec.md §8`): for which reasons, in which steps.

use std::time::Instant;

use super::{Core, Event, IoStep, Marks, Pings, Slot, State, stream::End};
use crate::{
    error::{GoAwayCode, ResetCode, SessionError, Violation},
    frame::Header,
};

/// How far the session is on its way to the end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Open,
    /// No new streams; ends when none is left, or at `until`.
    Draining {
        until: Option<Instant>,
    },
    /// The outcome is decided; GoAway and what is staged goes out.
    Finishing {
        until: Instant,
    },
    /// Our side is closed; input is discarded until the peer closes its own.
    Lingering {
        until: Instant,
        bytes_left: usize,
    },
    Ended,
}

impl Core {
    /// Tells the peer at once to open no more streams, and refuses those it opens all the same.
    pub fn go_away(&mut self) {
        if self.outcome.is_none() && !self.refuse_inbound {
            self.refuse_inbound = true;
            self.go_away = Some(GoAwayCode::NORMAL);
            self.wants_driver = true;
            self.events.push_back(Event::Openable);
        }
    }

    /// Refuses new streams, lets live ones finish until the drain deadline, then ends.
    pub fn close(&mut self, now: Instant) {
        let patience = self.timed.then(|| now + self.limits.drain_timeout);
        self.drain(patience);
        self.finish_if_drained(now);
    }

    /// Nobody holds the session: no stream can be opened or accepted any more.
    pub fn handles_dropped(&mut self, now: Instant) {
        self.drain(None);
        while let Some(slot) = self.accept_queue.pop_front() {
            self.streams[slot].marks.clear(Marks::QUEUED);
            self.end_stream(slot, End::Local(ResetCode::REFUSED));
            self.drop_chunks(slot);
            self.forget_if_over(slot);
        }
        self.finish_if_drained(now);
    }

    /// Ends now. The peer is told the code.
    pub fn abort(&mut self, code: GoAwayCode, now: Instant) {
        if let Phase::Finishing { until } = &mut self.phase {
            *until = (*until).min(now + self.limits.linger);
            self.wants_driver = true;
        }
        self.finish_session(Err(SessionError::Aborted(code)), Some(code), now);
    }

    /// The IO will return no more bytes.
    pub fn handle_eof(&mut self, now: Instant) {
        self.eof = true;
        let clean = self.decoder.at_boundary() && !self.has_live_streams();
        self.finish_session(
            if clean { Ok(()) } else { Err(SessionError::ConnectionLost) },
            None,
            now,
        );
        if let Phase::Lingering { .. } = self.phase {
            self.end();
        }
    }

    /// The IO failed; nothing can be sent or received any more.
    pub fn handle_failure(&mut self, error: SessionError, now: Instant) {
        self.finish_session(Err(error), None, now);
        self.end();
        self.staging.clear();
    }

    /// The IO closed its writing side, as [`IoStep::Shutdown`](super::IoStep) asked.
    pub fn handle_shutdown(&mut self, now: Instant) {
        if let Phase::Finishing { .. } = self.phase {
            let linger = self.limits.linger;
            if self.eof || linger.is_zero() || !self.timed {
                return self.end();
            }
            let (until, bytes_left) = (now + linger, self.limits.linger_bytes);
            self.phase = Phase::Lingering { until, bytes_left };
        }
    }

    /// What the shell is to do with the IO.
    pub fn io_step(&self) -> IoStep {
        match self.phase {
            Phase::Open | Phase::Draining { .. } => IoStep::Run,
            Phase::Finishing { .. } => IoStep::Shutdown,
            Phase::Lingering { .. } => IoStep::Linger,
            Phase::Ended => IoStep::Done(self.outcome.unwrap_or(Ok(()))),
        }
    }

    /// Whether the session is over, and how it ended.
    pub fn outcome(&self) -> Option<Result<(), SessionError>> {
        matches!(self.phase, Phase::Ended).then(|| self.outcome.unwrap_or(Ok(())))
    }

    /// How the session ends, from when that is decided on; the IO may still be busy with it.
    pub const fn ended(&self) -> Option<Result<(), SessionError>> {
        self.outcome
    }

    fn drain(&mut self, until: Option<Instant>) {
        if let Phase::Open | Phase::Draining { until: None } = self.phase {
            self.phase = Phase::Draining { until };
            self.refuse_inbound = true;
            self.wants_driver = true;
            self.events.push_back(Event::Openable);
            for slot in self.streams.slots() {
                // Resets that waited for an ACK wait no longer.
                if self.streams.get(slot).is_some_and(|entry| entry.marks.any(Marks::OWES_RST)) {
                    self.owe(slot, Marks::OWES_RST);
                }
            }
        }
    }

    pub(super) fn violation(&mut self, rule: Violation, frame: Option<Header>, now: Instant) {
        let error = SessionError::Violation { rule, frame };
        self.finish_session(Err(error), Some(GoAwayCode::PROTOCOL_ERROR), now);
    }

    /// The last `Session` handle is gone, or `close` was called: when no stream is left, end.
    pub(super) fn finish_if_drained(&mut self, now: Instant) {
        let Phase::Draining { until } = self.phase else { return };
        let overdue = until.is_some_and(|until| now >= until);
        let idle =
            self.streams.linked() == 0 && self.unnumbered == 0 && self.accept_queue.is_empty();
        if idle || overdue {
            self.finish_session(Ok(()), Some(GoAwayCode::NORMAL), now);
        }
    }

    /// Ends every stream and every wait; `GoAway` is sent unless the connection is gone.
    pub(super) fn finish_session(
        &mut self,
        outcome: Result<(), SessionError>,
        code: Option<GoAwayCode>,
        now: Instant,
    ) {
        if self.outcome.is_some() {
            return;
        }
        if let Err(error) = &outcome {
            log::debug!("session ends: {error}");
        }
        self.outcome = Some(outcome);
        let patience = if outcome.is_ok() {
            self.limits.linger.max(self.limits.drain_timeout)
        } else {
            self.staging.clear();
            self.pings = Pings::new();
            self.refusals.clear();
            self.limits.linger
        };
        self.phase = Phase::Finishing { until: now + patience };
        self.go_away = code;
        for slot in self.streams.slots() {
            if self.streams.get(slot).is_some() {
                self.end_with_session(slot);
            }
        }
        self.receiving = None;
        self.deadlines.clear();
        self.acks.forget_time();
        self.events.push_back(Event::Ended);
        self.wants_driver = true;
    }

    fn end_with_session(&mut self, slot: Slot) {
        let entry = &mut self.streams[slot];
        // A stream that was done keeps its clean end.
        if !entry.state.is_terminal() || entry.marks.any(Marks::OWES) {
            let clean = self.outcome.is_some_and(|outcome| outcome.is_ok()) && !self.eof;
            if entry.state != State::Reset {
                self.end_stream(slot, End::Local(ResetCode::CANCELLED));
                self.streams[slot].end = End::Session;
            }
            let entry = &mut self.streams[slot];
            if !clean {
                entry.marks.clear(Marks::OWES);
            }
        }
        self.forget_if_over(slot);
    }

    /// Nothing more is to be done with the IO.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.events.push_back(Event::Ended);
        self.wants_driver = true;
    }

    fn has_live_streams(&self) -> bool {
        self.streams.slots().filter_map(|slot| self.streams.get(slot)).any(|entry| {
            let done = match entry.state {
                State::Reset => true,
                state => state.is_terminal() && !entry.marks.any(Marks::OWES),
            };
            !done
        })
    }
}
