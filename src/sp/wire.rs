//! The SP wire format without IO: the handshake, messages in and out, and the words before a
//! body (`spec.md §13`). For tools and fuzzing as much as for the sockets.
//!
//! ```
//! use bytes::Bytes;
//! use trunkline::{
//!     sp::{ProtocolId, wire},
//!     transport::Framing,
//! };
//!
//! assert_eq!(wire::handshake(ProtocolId::REQ), *b"\0SP\0\0\x30\0\0");
//!
//! let mut outbox = wire::Outbox::new(Framing::Plain);
//! outbox.push(&[0xcf, 0x35, 0xb9, 0xd4], &Bytes::from_static(b"hello"));
//! let bytes = outbox.to_vec();
//! assert_eq!(bytes[..8], 9_u64.to_be_bytes());
//!
//! let mut inbox = wire::Inbox::new(Framing::Plain, Some(1 << 20));
//! inbox.room()[..bytes.len()].copy_from_slice(&bytes);
//! inbox.filled(bytes.len());
//! let message = inbox.next()?.expect("a whole message");
//! let (header, body) = wire::split_backtrace(message, 8)?;
//! assert_eq!((&header[..], &body[..]), (&[0xcf, 0x35, 0xb9, 0xd4][..], &b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod inbox;
mod outbox;

pub use inbox::{Inbox, MessageError};
pub use outbox::Outbox;

use std::fmt;

use bytes::Bytes;

use super::protocol::ProtocolId;

/// The eight bytes that each end sends first (`spec.md §13.2`).
#[must_use]
pub const fn handshake(own: ProtocolId) -> [u8; 8] {
    let [high, low] = own.0.to_be_bytes();
    [0, b'S', b'P', VERSION, high, low, 0, 0]
}

const VERSION: u8 = 0;

/// The protocol that the peer speaks, from the eight bytes that it sent.
///
/// # Errors
///
/// [`HeaderError`] if they are not a header of version 0.
pub const fn parse_handshake(bytes: [u8; 8]) -> Result<ProtocolId, HeaderError> {
    match bytes {
        [0, b'S', b'P', VERSION, high, low, 0, 0] => {
            Ok(ProtocolId(u16::from_be_bytes([high, low])))
        }
        [0, b'S', b'P', version, _, _, 0, 0] => Err(HeaderError::Version(version)),
        _ => Err(HeaderError::Malformed(bytes)),
    }
}

/// Why eight bytes are not a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They do not have the form of one.
    Malformed([u8; 8]),
    /// They are of a version other than 0.
    Version(u8),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(bytes) => {
                write!(f, "{bytes:02x?} is no SP header (does the peer speak SP?)")
            }
            Self::Version(version) => write!(f, "unsupported SP version {version}"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Splits a message into the words up to the first with its high bit set, and the body
/// (`spec.md §13.5`).
///
/// # Errors
///
/// [`BacktraceError`] if there is no such word, or more than `max_hops` words.
pub fn split_backtrace(mut message: Bytes, max_hops: u8) -> Result<(Bytes, Bytes), BacktraceError> {
    let words = message.chunks_exact(4).take(max_hops.into());
    let id = words.enumerate().find(|(_, word)| word[0] & 0x80 != 0);
    match id {
        Some((index, _)) => {
            let header = message.split_to(4 * (index + 1));
            Ok((header, message))
        }
        None if message.len() / 4 > usize::from(max_hops) => Err(BacktraceError::TooManyHops),
        None => Err(BacktraceError::Unfinished),
    }
}

/// What is wrong with the words before a body. Such a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BacktraceError {
    /// The message ended before a word with its high bit set.
    Unfinished,
    /// The message went through too many devices.
    TooManyHops,
}

impl fmt::Display for BacktraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfinished => "the message has no request id",
            Self::TooManyHops => "the message went through too many devices",
        })
    }
}

impl std::error::Error for BacktraceError {}
