//! The wire format: headers, whole frames and an incremental decoder. Pure, for the session,
//! for tooling and for fuzzing (`spec.md §2`, `§3`).

mod decoder;
mod header;

pub use decoder::{Decoder, Piece};
pub use header::{Flags, HEADER_LEN, Header, HeaderError, Kind, StreamId, VERSION};

use bytes::Bytes;

/// A whole frame, for tools and tests. A session never builds one: it streams bodies.
///
/// ```
/// use trunkline::frame::{Flags, Frame};
/// use trunkline::StreamId;
///
/// let frame = Frame::Data { stream: StreamId(1), flags: Flags::SYN, body: "hi".into() };
/// assert_eq!(frame.to_bytes(), [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, b'h', b'i']);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream.
    Data {
        /// The stream.
        stream: StreamId,
        /// Its flags.
        flags: Flags,
        /// Its bytes; more than `u32::MAX` of them cannot be framed and are cut.
        body: Bytes,
    },
    /// Credit for a stream, or a bare carrier of flags.
    WindowUpdate {
        /// The stream.
        stream: StreamId,
        /// Its flags.
        flags: Flags,
        /// The increment in bytes; beside RST, the reset code.
        delta: u32,
    },
    /// A probe (SYN) or its answer (ACK).
    Ping {
        /// SYN or ACK.
        flags: Flags,
        /// The value to echo.
        value: u32,
    },
    /// No new streams, or the end.
    GoAway {
        /// Why (`spec.md §3.4`).
        code: u32,
    },
}

impl Frame {
    /// The header in front of this frame.
    pub fn header(&self) -> Header {
        let (kind, flags, stream, length) = match *self {
            Self::Data { stream, flags, ref body } => {
                (Kind::Data, flags, stream, u32::try_from(body.len()).unwrap_or(u32::MAX))
            }
            Self::WindowUpdate { stream, flags, delta } => {
                (Kind::WindowUpdate, flags, stream, delta)
            }
            Self::Ping { flags, value } => (Kind::Ping, flags, StreamId::SESSION, value),
            Self::GoAway { code } => (Kind::GoAway, Flags::NONE, StreamId::SESSION, code),
        };
        Header { kind, flags, stream, length }
    }

    /// The wire form: the header and, for Data, the body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = self.header();
        let mut wire = header.encode().to_vec();
        if let Self::Data { body, .. } = self {
            wire.extend_from_slice(&body[..header.length as usize]);
        }
        wire
    }
}
