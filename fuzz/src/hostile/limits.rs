//! The sessions that are played against.

use std::sync::Arc;

use trunkline::{Config, runtime::ManualTimer};

use super::super::naive::WINDOW_SIZE;

/// Limits of a session, as far as the assertions need them.
pub(super) struct Limits {
    pub(super) accept_backlog: usize,
    pub(super) ack_backlog: usize,
    pub(super) max_streams: usize,
    pub(super) max_outbound: usize,
    pub(super) budget: usize,
    pub(super) staging: usize,
    pub(super) max_frame: u32,
    pub(super) max_window: u32,
}

impl Limits {
    /// The configuration of a session with these limits; the bits of `choice` say the rest.
    pub(super) fn config(&self, choice: u8, timer: Option<ManualTimer>) -> Config {
        let mut builder = Config::builder()
            .accept_backlog(self.accept_backlog)
            .ack_backlog(self.ack_backlog)
            .max_streams(self.max_streams)
            .max_outbound_streams(self.max_outbound)
            .receive_budget(self.budget)
            .staging_limit(self.staging)
            .max_frame(self.max_frame)
            .max_stream_window(self.max_window)
            .open_timeout_ends_session(choice & 16 != 0)
            .seed(Some(u64::from(choice)));
        if choice & 8 != 0 && self.max_window > WINDOW_SIZE {
            builder = builder.stream_window(self.max_window / 2);
        }
        if choice & 32 != 0 {
            builder = builder.max_empty_frames(64).max_early_resets(8);
        }
        builder = match timer {
            Some(timer) => builder.timer(Arc::new(timer)),
            None => builder.no_timer(),
        };
        builder.build().expect("limits in range")
    }
}

pub(super) const SMALL: Limits = Limits {
    accept_backlog: 4,
    ack_backlog: 3,
    max_streams: 6,
    max_outbound: 5,
    budget: 300_000,
    staging: 16 << 10,
    max_frame: 1_024,
    max_window: 262_144,
};

pub(super) const LARGE: Limits = Limits {
    accept_backlog: 256,
    ack_backlog: 256,
    max_streams: 1_024,
    max_outbound: 1_024,
    budget: 8 << 20,
    staging: 256 << 10,
    max_frame: 64 << 10,
    max_window: 1 << 20,
};
