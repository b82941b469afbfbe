//! An incremental decoder: bytes in any pieces in, headers and pieces of bodies out.

use super::header::{HEADER_LEN, Header, HeaderError};

/// Splits a byte stream into headers and bodies, at whatever boundaries the bytes arrive.
///
/// It holds at most one partial header; bodies pass through as borrowed pieces, so nothing is
/// ever allocated for a length the peer claims.
///
/// ```
/// use trunkline::frame::{Decoder, Piece};
///
/// let mut decoder = Decoder::new();
/// let wire = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, b'h', b'i'];
/// let (mut first, mut second) = wire.split_at(7);
/// assert_eq!(decoder.decode(&mut first), Ok(None)); // incomplete
/// assert!(matches!(decoder.decode(&mut second), Ok(Some(Piece::Header(_)))));
/// assert_eq!(decoder.decode(&mut second), Ok(Some(Piece::Body(b"hi"))));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    partial: [u8; HEADER_LEN],
    held: usize,
    body_left: u32,
}

impl Decoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: [0; HEADER_LEN], held: 0, body_left: 0 }
    }

    /// Takes the next piece off the front of `input`; `None` means more bytes are needed and
    /// `input` is now empty.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] for a malformed header. The stream of bytes has no meaning after that.
    #[inline]
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, HeaderError> {
        if self.body_left > 0 {
            return Ok(self.take_body(input));
        }
        let head = if self.held == 0
            && let Some((head, rest)) = input.split_first_chunk::<HEADER_LEN>()
        {
            *input = rest;
            head
        } else {
            let wanted = HEADER_LEN - self.held;
            let (head, rest) = input.split_at(wanted.min(input.len()));
            *input = rest;
            self.partial[self.held..self.held + head.len()].copy_from_slice(head);
            self.held += head.len();
            if self.held < HEADER_LEN {
                return Ok(None);
            }
            self.held = 0;
            &self.partial
        };
        let kind = Header::decode_kind(head)?;
        let header = Header::with_kind(kind, head);
        self.body_left = header.body_len();
        Ok(Some(Piece::Header(header)))
    }

    /// Whether the bytes so far end exactly between two frames.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.held == 0 && self.body_left == 0
    }

    /// How many bytes of the current body are still to come.
    #[must_use]
    pub const fn body_left(&self) -> u32 {
        self.body_left
    }

    /// Goes on as if the next `len` bytes, all of the current body, had been taken.
    pub(crate) fn skip_body(&mut self, len: usize) {
        debug_assert!(len <= self.body_left as usize, "beyond the body");
        self.body_left = self.body_left.saturating_sub(len as u32);
    }

    fn take_body<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        if input.is_empty() {
            return None;
        }
        let left = usize::try_from(self.body_left).unwrap_or(usize::MAX);
        let (body, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        // `body` is no longer than `body_left`, so it fits.
        self.body_left -= body.len() as u32;
        Some(Piece::Body(body))
    }
}

/// What [`Decoder::decode`] found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A complete header.
    Header(Header),
    /// Some bytes of the body of the header before; never empty.
    Body(&'a [u8]),
}
