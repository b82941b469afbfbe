//! Raw sockets: messages as they are on the wire, for devices and for patterns of one's own.

mod inbox;
mod rep;
mod req;
mod socket;

pub use socket::{RawRep, RawReq};

use std::{
    task::{Context, Poll},
    time::Instant,
};

use self::inbox::RawInbox;
use super::{
    error::SendError,
    message::Message,
    pattern::{Base, Pattern},
};

/// What the raw patterns add to a pattern, so that one shell serves both.
pub(crate) trait Raw: Pattern {
    fn inbox(&mut self) -> &mut RawInbox;

    /// The deadline that ends a receiver's wait.
    fn recv_due(key: u64) -> Self::Due;

    /// Sends or waits.
    fn poll_send(
        &mut self,
        base: &mut Base<Self>,
        sending: &mut Sending<'_>,
        cx: Option<&Context<'_>>,
    ) -> Poll<Result<(), SendError>>;

    /// A sender does not wait any more.
    fn end_send(&mut self, base: &mut Base<Self>, place: (u32, u64));

    /// Deadlines do not outlive for long those who set them. Is told whenever someone leaves.
    fn sweep(&self, base: &mut Base<Self>);
}

/// A message on its way.
pub(crate) struct Sending<'a> {
    pub(crate) message: &'a mut Message,
    /// The place in line: before which pipe, for those patterns that have a line for each.
    pub(crate) place: &'a mut Option<(u32, u64)>,
    pub(crate) until: Option<Instant>,
    pub(crate) best_effort: bool,
}
