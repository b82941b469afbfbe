//! Who a peer is.

use std::fmt;

use bytes::Bytes;

/// The id of a peer: 1 to 255 bytes of the application's choice.
///
/// Ids are ordered by their bytes: of two peers that dial each other at once, the session that the
/// smaller one dialled survives (`spec.md §16.3`).
///
/// ```
/// use trunkline::peers::PeerId;
///
/// let id = PeerId::new("node-7")?;
/// assert_eq!(id.to_string(), "node-7");
/// assert!(PeerId::new("").is_err());
/// # Ok::<(), trunkline::peers::InvalidPeerId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    bytes: Bytes,
}

impl PeerId {
    /// An id of these bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidPeerId`] if there are none, or more than 255.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, InvalidPeerId> {
        let bytes = bytes.into();
        if bytes.is_empty() || bytes.len() > 255 {
            return Err(InvalidPeerId { len: bytes.len() });
        }
        Ok(Self { bytes })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for PeerId {
    /// As text if it is printable, else in hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "{:x}", self.bytes),
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// An id was to have no bytes, or more than 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPeerId {
    len: usize,
}

impl fmt::Display for InvalidPeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id of {} bytes where 1 to 255 are allowed", self.len)
    }
}

impl std::error::Error for InvalidPeerId {}
