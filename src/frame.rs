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
/// assert_eq!(Frame::decode(&mut &frame.to_bytes()[..]), Ok(Some(frame)));
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

    /// Takes the next frame off the front of `input`. `None`: it is not whole yet, and `input` is
    /// unchanged. What a frame has no use for, the flags of GoAway and the stream of Ping and
    /// GoAway, is not kept.
    ///
    /// Unlike a [`Decoder`] it wants the whole body in memory, as long as the peer claims it is.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] for a malformed header.
    pub fn decode(input: &mut &[u8]) -> Result<Option<Self>, HeaderError> {
        let Some((head, rest)) = input.split_first_chunk() else { return Ok(None) };
        let header = Header::decode(head)?;
        let Header { kind, flags, stream, length } = header;
        let body_len = usize::try_from(header.body_len()).unwrap_or(usize::MAX);
        let Some((body, rest)) = rest.split_at_checked(body_len) else { return Ok(None) };
        *input = rest;
        Ok(Some(match kind {
            Kind::Data => Self::Data { stream, flags, body: Bytes::copy_from_slice(body) },
            Kind::WindowUpdate => Self::WindowUpdate { stream, flags, delta: length },
            Kind::Ping => Self::Ping { flags, value: length },
            Kind::GoAway => Self::GoAway { code: length },
        }))
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
