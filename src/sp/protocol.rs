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
    /// One to one.
    pub const PAIR: Self = Self(0x10);
    /// Publish.
    pub const PUB: Self = Self(0x20);
    /// Subscribe.
    pub const SUB: Self = Self(0x21);
    /// Ask.
    pub const REQ: Self = Self(0x30);
    /// Answer.
    pub const REP: Self = Self(0x31);
    /// Hand out work.
    pub const PUSH: Self = Self(0x50);
    /// Take work.
    pub const PULL: Self = Self(0x51);
    /// Ask everyone.
    pub const SURVEYOR: Self = Self(0x62);
    /// Answer a survey.
    pub const RESPONDENT: Self = Self(0x63);
    /// Everyone to everyone.
    pub const BUS: Self = Self(0x70);
    /// Everyone to everyone, passed on.
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

/// What a socket speaks, and what its peers must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The socket's own protocol.
    pub own: ProtocolId,
    /// Its peers'.
    pub peer: ProtocolId,
}

impl Info {
    /// The name of the socket's own protocol.
    #[must_use]
    pub fn own_name(&self) -> &'static str {
        self.own.name()
    }

    /// The name of its peers'.
    #[must_use]
    pub fn peer_name(&self) -> &'static str {
        self.peer.name()
    }
}
