//! The numbers of the SP protocols.

use std::fmt;

/// A protocol of the SP family: the upper twelve bits are the pattern, the lower four the role in
/// it (`spec.md §13.1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtocolId(
    /// The number on the wire.
    pub u16,
);

impl ProtocolId {
    /// One peer talks to one other.
    pub const PAIR: Self = Self(0x10);
    /// Publishes to subscribers.
    pub const PUB: Self = Self(0x20);
    /// Subscribes to publishers.
    pub const SUB: Self = Self(0x21);
    /// Sends requests.
    pub const REQ: Self = Self(0x30);
    /// Replies to requests.
    pub const REP: Self = Self(0x31);
    /// Hands out work.
    pub const PUSH: Self = Self(0x50);
    /// Takes work.
    pub const PULL: Self = Self(0x51);
    /// Asks everyone.
    pub const SURVEYOR: Self = Self(0x62);
    /// Answers a survey.
    pub const RESPONDENT: Self = Self(0x63);
    /// Every peer sends to every neighbour.
    pub const BUS: Self = Self(0x70);
    /// As a bus, but messages are passed on.
    pub const STAR: Self = Self(0x640);

    /// The protocol's name in lower case, `unknown` if it has none here.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = NAMES.iter().find(|(id, _)| *id == self);
        known.map_or("unknown", |(_, name)| name)
    }
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:#06x})", self.name(), self.0)
    }
}

const NAMES: [(ProtocolId, &str); 11] = [
    (ProtocolId::PAIR, "pair"),
    (ProtocolId::PUB, "pub"),
    (ProtocolId::SUB, "sub"),
    (ProtocolId::REQ, "req"),
    (ProtocolId::REP, "rep"),
    (ProtocolId::PUSH, "push"),
    (ProtocolId::PULL, "pull"),
    (ProtocolId::SURVEYOR, "surveyor"),
    (ProtocolId::RESPONDENT, "respondent"),
    (ProtocolId::BUS, "bus"),
    (ProtocolId::STAR, "star"),
];

/// The protocol that a socket speaks, and the one that its peers must speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The socket's own protocol.
    pub own: ProtocolId,
    /// The protocol of its peers.
    pub peer: ProtocolId,
}

impl Info {
    /// The name of the socket's own protocol.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        self.own.name()
    }

    /// The name of its peers' protocol.
    #[must_use]
    pub fn peer_name(&self) -> &'static str {
        self.peer.name()
    }
}
