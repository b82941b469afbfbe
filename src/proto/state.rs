//! The life of a stream, as one total table (`spec.md §4.7`).
//!
//! ```text
//!            open            SYN staged             ACK
//!   (none) ───────▶ Init ───────────────▶ SynSent ───────┐
//!                                                        ▼
//!            SYN                    ACK staged       Established
//!   (none) ───────▶ SynReceived ───────────────────────▶ │
//!                                             close ┌────┴────┐ FIN
//!                                                   ▼         ▼
//!                                            LocalClosed   RemoteClosed
//!                                                   │ FIN     │ close
//!                                                   └────┬────┘
//!   any, on RST or drop without close ──▶ Reset          ▼
//!                                                     Closed
//! ```
//!
//! What is owed to the peer (SYN, ACK, credit, FIN, RST) is not part of the state: those are
//! marks of the stream's entry.

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Opened here; the peer has not been told.
    Init,
    /// SYN is staged or sent.
    SynSent,
    /// The peer opened it; no ACK is staged yet.
    SynReceived,
    /// Both sides know it.
    Established,
    /// This side writes no more.
    LocalClosed,
    /// The peer writes no more.
    RemoteClosed,
    /// Neither writes any more.
    Closed,
    /// Gone, with everything in flight.
    Reset,
}

/// What can happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Our SYN was staged.
    SynStaged,
    /// Our ACK was staged.
    AckStaged,
    /// The peer's SYN arrived for an id in use.
    Syn,
    /// The peer's ACK arrived.
    Ack,
    /// The peer's FIN arrived.
    Fin,
    /// The peer's RST arrived, or this side resets.
    Rst,
    /// A body arrived.
    Data,
    /// The user closes.
    Close,
    /// The user dropped every handle.
    Drop,
}

/// What follows from an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on, in this state.
    Next(State),
    /// Nothing changes.
    Ignore,
    /// The stream is reset, and the peer told.
    ResetStream,
    /// The stream vanishes: the peer never heard of it.
    Forget,
    /// The peer broke the protocol; the session ends.
    EndSession,
}

impl State {
    /// The whole table: every state has an answer for every input.
    pub const fn on(self, input: Input) -> Verdict {
        use Input as I;
        use State::{
            Closed, Established, Init, LocalClosed, RemoteClosed, Reset, SynReceived, SynSent,
        };
        use Verdict::{EndSession, Forget, Ignore, Next, ResetStream};
        match (self, input) {
            (_, I::Syn) => EndSession,
            (_, I::Rst) => Next(Reset),

            (Init, I::SynStaged) => Next(SynSent),
            (_, I::SynStaged) => Ignore,
            (SynReceived, I::AckStaged) => Next(Established),
            (_, I::AckStaged) => Ignore,
            (SynSent, I::Ack) => Next(Established),
            (_, I::Ack) => Ignore,

            (SynSent | SynReceived | Established, I::Fin) => Next(RemoteClosed),
            (LocalClosed, I::Fin) => Next(Closed),
            (Init | RemoteClosed | Closed | Reset, I::Fin) => Ignore,

            (RemoteClosed | Closed, I::Data) => ResetStream,
            (Init | Reset, I::Data) => Ignore,
            (SynSent | SynReceived | Established | LocalClosed, I::Data) => Next(self),

            (Init | SynSent | SynReceived | Established, I::Close) => Next(LocalClosed),
            (RemoteClosed, I::Close) => Next(Closed),
            (LocalClosed | Closed | Reset, I::Close) => Ignore,

            (Init, I::Drop) => Forget,
            (SynSent | SynReceived | Established | RemoteClosed, I::Drop) => ResetStream,
            (LocalClosed | Closed | Reset, I::Drop) => Ignore,
        }
    }

    /// Whether this side may still write.
    pub const fn can_write(self) -> bool {
        matches!(
            self,
            Self::Init | Self::SynSent | Self::SynReceived | Self::Established | Self::RemoteClosed
        )
    }

    /// Whether the peer may still send bytes that would be read.
    pub const fn can_receive(self) -> bool {
        matches!(
            self,
            Self::Init | Self::SynSent | Self::SynReceived | Self::Established | Self::LocalClosed
        )
    }

    /// Whether nothing more is expected from the peer or from the user.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Closed | Self::Reset)
    }
}
