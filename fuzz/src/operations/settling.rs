//! Nothing new begins: whatever the two ends still mean to do comes to its end.

use std::time::Duration;

use trunkline::proto::{Half, IoStep};

use super::{MAX_PIECE, Pair, end::End, handle::Handle};

impl Pair {
    /// Nothing new begins; all that waits, waits for an event.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000_000, "it never settles");
            let mut busy = false;
            for end in 0..2 {
                while self.ends[end].accept(&self.lines) {
                    busy = true;
                }
                busy |= self.use_handles(end);
                busy |= self.transmit(end, usize::MAX);
                busy |= self.deliver(end, usize::MAX);
                busy |= self.close_io(end);
                busy |= self.ends[end].core.has_events();
            }
            self.notice();
            if !busy && !self.wait() {
                return;
            }
        }
    }

    fn use_handles(&mut self, end: usize) -> bool {
        let mut busy = false;
        for index in (0..self.ends[end].handles.len()).rev() {
            while !self.ends[end].handles[index].write_blocked
                && self.write(end, index, index % 2 == 0)
            {
                busy = true;
            }
            let handle = &self.ends[end].handles[index];
            if handle.write && !handle.finished && (handle.wants == 0 || handle.write_over) {
                self.ends[end].finish(&mut self.lines, index);
                busy = true;
            }
            loop {
                let handle = &self.ends[end].handles[index];
                let waits = handle.read_blocked || handle.read_over;
                if waits || !self.read(end, index, MAX_PIECE, index % 2 == 1) {
                    break;
                }
                busy = true;
            }
            let handle = &self.ends[end].handles[index];
            // A half dropped without a close says nothing: two such ends would wait for each other.
            let abandoned = !handle.write && !handle.finished;
            // Who waits for a flush is told of it.
            let finished = handle.finished && !(handle.write && handle.write_blocked);
            if abandoned || finished && (handle.read_over || !handle.read) {
                self.ends[end].release(&mut self.lines, index, Half::Both);
                busy = true;
            }
        }
        busy
    }

    /// Does with the IO what an ending core asks for.
    fn close_io(&mut self, end: usize) -> bool {
        let now = self.now;
        let other = 1 - end;
        let eof = self.shut[other] && self.pipes[other].is_empty();
        let End { core, writing, .. } = &mut self.ends[end];
        let mut busy = false;
        if !self.shut[end] && writing.is_none() && core.io_step() == IoStep::Shutdown {
            self.shut[end] = true;
            core.handle_shutdown(now);
            busy = true;
        }
        if eof && !matches!(core.io_step(), IoStep::Done(_)) && !self.ends[end].eof_seen() {
            self.ends[end].core.handle_eof(now);
            busy = true;
        }
        if matches!(self.ends[end].core.io_step(), IoStep::Done(_)) && !self.shut[end] {
            self.shut[end] = true;
            busy = true;
        }
        busy
    }

    /// A moment may pass, for what is delayed on purpose.
    fn wait(&mut self) -> bool {
        if self.waited >= Duration::from_millis(40) && !self.disturbed {
            return false;
        }
        if self.waited >= Duration::from_secs(700) {
            return false;
        }
        let step = if self.waited < Duration::from_millis(40) {
            Duration::from_millis(10)
        } else {
            Duration::from_secs(50)
        };
        self.waited += step;
        self.tick(u64::try_from(step.as_millis()).expect("short"));
        true
    }

    /// `spec.md §4.5.9`: two ends that both only write wait for each other.
    fn is_unread(&self, handle: &Handle) -> bool {
        let halves = self.ends.iter().flat_map(|end| &end.handles);
        let mut both = halves.filter(|other| other.line == handle.line);
        both.clone().count() == 2 && both.all(|half| half.write && !half.read)
    }

    pub(super) fn check_settled(&self) {
        if self.ends.iter().flat_map(|end| &end.handles).any(|handle| self.is_unread(handle)) {
            return;
        }
        for (number, end) in self.ends.iter().enumerate() {
            let lines: Vec<_> = end.handles.iter().map(|h| self.lines.lines[h.line]).collect();
            assert!(end.handles.is_empty(), "end {number} waits for ever: {lines:?}");
            assert!(!end.open_blocked || self.disturbed, "end {number}: an open waits for ever");
            assert!(end.pings.is_empty(), "end {number}: a ping waits for ever");
            let stats = end.core.stats();
            let left = [
                stats.outbound_streams,
                stats.inbound_streams,
                stats.accept_backlog,
                stats.ack_backlog,
                stats.buffered,
                stats.extra_credit,
                end.core.live_streams(),
            ];
            assert_eq!(left, [0; 7], "end {number}: {stats:?}");
        }
        for line in &self.lines.lines {
            for end in 0..2 {
                assert!(line.read[end] <= line.written[1 - end]);
            }
        }
    }

    /// Closes, from either side or both.
    pub(super) fn end(&mut self, choice: usize) {
        for end in [0, 1] {
            if choice % 3 != end {
                self.ends[end].core.close(self.now);
            }
        }
        let disturbed = std::mem::replace(&mut self.disturbed, true);
        // The drain takes its own time, however long was waited before.
        self.waited = Duration::ZERO;
        self.settle();
        let unread = self.ends.iter().flat_map(|end| &end.handles).any(|it| self.is_unread(it));
        if unread && !self.timed {
            // Without a clock nothing but an abort ends what two that both only write wait for.
            return;
        }
        for (number, end) in self.ends.iter().enumerate() {
            let outcome = end.core.outcome();
            assert!(outcome.is_some(), "end {number} does not end: {:?}", end.core.io_step());
            assert!(disturbed || outcome == Some(Ok(())), "end {number}: {outcome:?}");
        }
    }
}
