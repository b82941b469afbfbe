//! The 12 bytes in front of every frame, as a pure function over `[u8; 12]`.

use std::{
    fmt,
    ops::{BitOr, BitOrAssign},
};

/// The length of an encoded [`Header`], in bytes.
pub const HEADER_LEN: usize = 12;

/// The only protocol version there is (`spec.md §2`).
pub const VERSION: u8 = 0;

/// The fixed header of a frame (`spec.md §2`). All integers are big-endian.
///
/// ```
/// use trunkline::frame::{Flags, Header, Kind};
/// use trunkline::StreamId;
///
/// let syn = Header { kind: Kind::WindowUpdate, flags: Flags::SYN, stream: StreamId(1), length: 0 };
/// assert_eq!(syn.encode(), [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
/// assert_eq!(Header::decode(&syn.encode()), Ok(syn));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// SYN, ACK, FIN and RST; unknown bits are carried and ignored.
    pub flags: Flags,
    /// The stream the frame belongs to, or [`StreamId::SESSION`].
    pub stream: StreamId,
    /// Body length, credit, ping value or code, by [`kind`](Self::kind).
    pub length: u32,
}

impl Header {
    /// The wire form.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let flags = self.flags.0.to_be_bytes();
        let stream = self.stream.0.to_be_bytes();
        let length = self.length.to_be_bytes();
        [
            VERSION,
            self.kind as u8,
            flags[0],
            flags[1],
            stream[0],
            stream[1],
            stream[2],
            stream[3],
            length[0],
            length[1],
            length[2],
            length[3],
        ]
    }

    /// Reads the wire form.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the version is not 0 or the kind is above 3. Nothing else of a header
    /// can be malformed by itself.
    #[inline]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let kind = Self::decode_kind(bytes)?;
        Ok(Self::with_kind(kind, bytes))
    }

    /// What can be malformed. Apart from the rest, so that a header never is in a `Result` on its
    /// way to who handles it: that would be written in small pieces and read back in large ones.
    #[inline]
    pub(super) const fn decode_kind(bytes: &[u8; HEADER_LEN]) -> Result<Kind, HeaderError> {
        let [version, kind, ..] = *bytes;
        if version != VERSION {
            return Err(HeaderError::UnsupportedVersion(version));
        }
        Ok(match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            unknown => return Err(HeaderError::UnknownKind(unknown)),
        })
    }

    #[inline]
    pub(super) const fn with_kind(kind: Kind, bytes: &[u8; HEADER_LEN]) -> Self {
        let [_, _, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *bytes;
        Self {
            kind,
            flags: Flags(u16::from_be_bytes([f0, f1])),
            stream: StreamId(u32::from_be_bytes([s0, s1, s2, s3])),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    /// The number of bytes that follow this header: only [`Kind::Data`] has a body.
    #[must_use]
    pub const fn body_len(self) -> u32 {
        match self.kind {
            Kind::Data => self.length,
            Kind::WindowUpdate | Kind::Ping | Kind::GoAway => 0,
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}] stream {} length {}", self.kind, self.flags, self.stream, self.length)
    }
}

/// What a frame is (`spec.md §3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream; `length` counts them.
    Data = 0,
    /// Credit for a stream; `length` is the increment, or the reset code beside RST.
    WindowUpdate = 1,
    /// A probe (SYN) or its answer (ACK); `length` is opaque.
    Ping = 2,
    /// No new streams, or the end of the session; `length` is the code.
    GoAway = 3,
}

/// The flag bits of a header (`spec.md §2`).
///
/// ```
/// use trunkline::frame::Flags;
///
/// let first = Flags::SYN | Flags::FIN;
/// assert!(first.contains(Flags::FIN) && !first.contains(Flags::RST));
/// assert_eq!(first.to_string(), "SYN|FIN");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(
    /// The raw bits, unknown ones included.
    pub u16,
);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream, or asks for a pong.
    pub const SYN: Self = Self(1);
    /// Accepts a stream, or is a pong.
    pub const ACK: Self = Self(2);
    /// The sender writes no more.
    pub const FIN: Self = Self(4);
    /// The stream is gone.
    pub const RST: Self = Self(8);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits, as `|`, in constants too.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.with(other);
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(Self::SYN, "SYN"), (Self::ACK, "ACK"), (Self::FIN, "FIN"), (Self::RST, "RST")];
        let (mut unknown, mut between) = (self.0, "");
        for (flag, name) in names.into_iter().filter(|(flag, _)| self.contains(*flag)) {
            write!(f, "{between}{name}")?;
            (unknown, between) = (unknown & !flag.0, "|");
        }
        if unknown == 0 { Ok(()) } else { write!(f, "{between}{unknown:#x}") }
    }
}

/// The number of a stream on the wire (`spec.md §4.1`): odd if the client opened it, even if the
/// server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(
    /// The number.
    pub u32,
);

impl StreamId {
    /// Stream 0 is the session itself.
    pub const SESSION: Self = Self(0);
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why twelve bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderError {
    /// The version byte was not 0.
    UnsupportedVersion(u8),
    /// The kind byte was above 3.
    UnknownKind(u8),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion(version) => write!(f, "unsupported version {version}"),
            Self::UnknownKind(kind) => write!(f, "unknown frame kind {kind}"),
        }
    }
}

impl std::error::Error for HeaderError {}
