//! The bytes of the first stream of a session between peers (`spec.md §16.2`, `§16.4`). For tools
//! and fuzzing as much as for stores.

use std::{error::Error, fmt, io, num::NonZeroU8};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{PeerId, RefusalCode};
use crate::stream::Stream;

/// What each side says of itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// A number that tells this life of the store from others under the same id.
    pub incarnation: u64,
    /// From the side that dialled, the number of this dial; from the other, how many dials it has
    /// begun.
    pub dials: u64,
    /// Its id.
    pub id: PeerId,
    /// What the other side may verify it by.
    pub token: Bytes,
}

/// How the side that was dialled answers a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It accepts the session.
    Welcome(Hello),
    /// It refuses the session: why, as a code and in words.
    Refused(RefusalCode, String),
}

/// What travels after the handshake, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message {
        /// The number that an ack has to name; `None` if no ack is wanted.
        number: Option<u64>,
        /// Its content.
        body: Bytes,
    },
    /// What became of a message.
    Ack {
        /// The number of the message.
        number: u64,
        /// Why it failed, if it did.
        error: Option<String>,
    },
}

/// What arrived breaks a rule of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what came is no message of a peer")
    }
}

impl Error for Malformed {}

impl Hello {
    /// As the dialler sends it, with the length in front.
    pub fn encode(&self) -> Vec<u8> {
        framed(|out| self.put(out))
    }

    /// Decodes what follows the length.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let incarnation = bytes.try_get_u64().map_err(|_| Malformed)?;
        let dials = bytes.try_get_u64().map_err(|_| Malformed)?;
        let len = usize::from(bytes.try_get_u8().map_err(|_| Malformed)?);
        if bytes.len() < len {
            return Err(Malformed);
        }
        let id = PeerId::new(bytes.split_to(len)).map_err(|_| Malformed)?;
        Ok(Self { incarnation, dials, id, token: bytes })
    }

    /// The parts that follow the length.
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.incarnation);
        out.put_u64(self.dials);
        out.put_u8(self.id.as_bytes().len() as u8);
        out.put_slice(self.id.as_bytes());
        out.put_slice(&self.token);
    }
}

impl Answer {
    /// As it is sent, with the length in front.
    pub fn encode(&self) -> Vec<u8> {
        framed(|out| match self {
            Self::Welcome(hello) => {
                out.put_u8(0);
                hello.put(out);
            }
            Self::Refused(code, words) => {
                out.put_u8(code.number());
                out.put_slice(words.as_bytes());
            }
        })
    }

    /// Decodes what follows the length.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let code = bytes.try_get_u8().map_err(|_| Malformed)?;
        match NonZeroU8::new(code) {
            None => Hello::decode(bytes).map(Self::Welcome),
            Some(_) if bytes.len() > MAX_WORDS => Err(Malformed),
            Some(code) => {
                let words = String::from_utf8_lossy(&bytes).into_owned();
                Ok(Self::Refused(RefusalCode::from_number(code), words))
            }
        }
    }
}

fn framed(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 2];
    put(&mut out);
    out.truncate(2 + usize::from(u16::MAX));
    let len = (out.len() - 2) as u16;
    out[..2].copy_from_slice(&len.to_be_bytes());
    out
}

impl Frame {
    /// All of an ack; of a message what stands before its body.
    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        match self {
            Self::Message { number, body } => {
                out.put_slice(&[MESSAGE, u8::from(number.is_some()), 0, 0]);
                out.put_u32(body.len() as u32);
                number.iter().for_each(|number| out.put_u64(*number));
            }
            Self::Ack { number, error } => {
                let words = error.as_deref().unwrap_or_default();
                out.put_slice(&[ACK, u8::from(error.is_some()), 0, 0]);
                out.put_u32(words.len() as u32);
                out.put_u64(*number);
                out.put_slice(words.as_bytes());
            }
        }
        out
    }
}

/// Turns what arrives into frames.
#[derive(Debug)]
pub struct Decoder {
    received: BytesMut,
    max_message: usize,
}

impl Decoder {
    /// A decoder for messages of up to `max_message` bytes.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self { received: BytesMut::new(), max_message }
    }

    /// Takes what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Whether part of a frame has arrived.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.received.is_empty()
    }

    /// Bytes of memory held for what has arrived and was not decoded yet.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.received.capacity()
    }

    /// The next frame, once all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as soon as its head has arrived.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some(head) = self.received.first_chunk::<8>() else { return Ok(None) };
        let &[kind, flags, 0, 0, a, b, c, d] = head else { return Err(Malformed) };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let most = if kind == MESSAGE { self.max_message } else { MAX_WORDS };
        if !matches!(kind, MESSAGE | ACK) || flags > 1 || len > most {
            return Err(Malformed);
        }
        let numbered = kind == ACK || flags == 1;
        let head = if numbered { 16 } else { 8 };
        if self.received.len() < head + len {
            return Ok(None);
        }
        let mut frame = self.received.split_to(head + len).freeze();
        frame.advance(8);
        let number = numbered.then(|| frame.get_u64());
        Ok(Some(match number {
            Some(number) if kind == ACK => {
                let words = || String::from_utf8_lossy(&frame).into_owned();
                Frame::Ack { number, error: (flags == 1).then(words) }
            }
            number => Frame::Message { number, body: frame },
        }))
    }
}

/// Reads a length and as many bytes.
pub(super) async fn read_framed(stream: &mut Stream) -> io::Result<Bytes> {
    let mut received = BytesMut::new();
    loop {
        if let Some(len) = received.first_chunk().map(|len| usize::from(u16::from_be_bytes(*len)))
            && received.len() >= 2 + len
        {
            received.advance(2);
            return Ok(received.split_to(len).freeze());
        }
        // No further than this frame: what follows is for the decoder.
        let wanted = match received.first_chunk() {
            None => 2 - received.len(),
            Some(len) => 2 + usize::from(u16::from_be_bytes(*len)) - received.len(),
        };
        let chunk = stream.read_chunk(wanted).await?;
        received.extend_from_slice(&chunk.ok_or(io::ErrorKind::UnexpectedEof)?);
    }
}

const MESSAGE: u8 = 1;
const ACK: u8 = 2;

/// As much of the words as may be sent.
pub(super) fn shorten(mut words: String) -> String {
    let mut most = MAX_WORDS.min(words.len());
    while !words.is_char_boundary(most) {
        most -= 1;
    }
    words.truncate(most);
    words
}

/// Bytes of words: of an answer that refuses, of an ack.
const MAX_WORDS: usize = 4_096;
