//! Counters.

/// What a session has done and holds, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Live streams that this side opened.
    pub outbound_streams: usize,
    /// Live streams that the peer opened.
    pub inbound_streams: usize,
    /// Inbound streams that wait to be accepted.
    pub accept_backlog: usize,
    /// Outbound streams that wait for the peer's ACK.
    pub ack_backlog: usize,
    /// Bytes received and not read.
    pub buffered: usize,
    /// Credit granted beyond the initial windows, in bytes.
    pub extra_credit: usize,
    /// Bytes staged for the IO.
    pub staged: usize,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes of stream data received.
    pub bytes_received: u64,
    /// Bytes of stream data staged.
    pub bytes_sent: u64,
    /// Streams the peer reset.
    pub resets_received: u64,
    /// Streams this side reset.
    pub resets_sent: u64,
    /// Inbound streams refused because a limit was reached.
    pub refused: u64,
    /// Streams reset because the receive budget was spent.
    pub overloaded: u64,
    /// Frames for streams already finished.
    pub late_frames: u64,
    /// Streams dropped with data that had not been sent.
    pub dropped_unsent: u64,
}
