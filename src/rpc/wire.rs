//! The heads of requests and responses as bytes (`spec.md §15.2`, `§15.3`), without IO. Public for
//! tools and fuzzing.

use std::fmt;

use bytes::{Buf, Bytes};

use super::{Code, Metadata, Request, Text};

/// What stands before the body of a request.
///
/// ```
/// use trunkline::rpc::wire::RequestHead;
///
/// let head = RequestHead { method: "Echo.Say".into(), ..RequestHead::default() };
/// let mut bytes = Vec::new();
/// head.encode(&mut bytes)?;
/// bytes.extend_from_slice(b"the body");
/// let mut rest = bytes.into();
/// assert_eq!(RequestHead::decode(&mut rest)?, head);
/// assert_eq!(rest, "the body");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Whether Messages follow. The body is empty then.
    pub streaming: bool,
    /// The service that the call is for; empty for whoever is at the other end.
    pub service: Text,
    /// The method, `Service.Method`.
    pub method: Text,
    /// The content type of the body; empty for the server's default.
    pub content_type: Text,
    /// The content type that the answer should have; empty for that of the body.
    pub accept: Text,
    /// What travels beside the body.
    pub metadata: Metadata,
}

/// What stands before the body of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Whether Messages and a last Response follow. The body is empty then.
    pub streaming: bool,
    /// How the call failed; `None` if it succeeded. Rare, and so apart: heads are moved about.
    pub failure: Option<Box<Failure>>,
    /// The content type of the body.
    pub content_type: Text,
    /// Metadata that comes before the body.
    pub headers: Metadata,
    /// Metadata that comes behind it.
    pub trailers: Metadata,
}

/// A status, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class of the failure.
    pub code: Code,
    /// What went wrong, in words.
    pub message: Text,
    /// Details for programs.
    pub details: Bytes,
}

const STREAMING: u8 = 1;

/// Values of metadata in one place. Held, one takes many times the three bytes that it may take on
/// the wire.
const MAX_VALUES: usize = 1_024;

impl RequestHead {
    /// Appends the head.
    ///
    /// # Errors
    ///
    /// [`TooLong`] naming the field that does not fit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let Self { streaming, service, method, content_type, accept, metadata } = self;
        put_request(out, *streaming, [service, method, content_type, accept], metadata)
    }

    /// Takes a head from the front; what is left is the body.
    ///
    /// # Errors
    ///
    /// [`BadHead`].
    pub fn decode(bytes: &mut Bytes) -> Result<Self, BadHead> {
        let mut head = Self::default();
        let Self { streaming, service, method, content_type, accept, metadata } = &mut head;
        *streaming = take_request(bytes, [service, method, content_type, accept], metadata)?;
        Ok(head)
    }
}

impl ResponseHead {
    /// Appends the head.
    ///
    /// # Errors
    ///
    /// [`TooLong`] naming the field that does not fit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        out.push(u8::from(self.streaming) * STREAMING);
        match self.failure.as_deref() {
            None => out.push(0),
            Some(Failure { code, message, details }) => {
                out.push(code.number());
                put(out, message.bytes(), 2, "message")?;
                put(out, details, 4, "details")?;
            }
        }
        put_short(out, &self.content_type, "content type")?;
        put_metadata(out, &self.headers)?;
        put_metadata(out, &self.trailers)
    }

    /// Takes a head from the front; what is left is the body.
    ///
    /// # Errors
    ///
    /// [`BadHead`].
    pub fn decode(bytes: &mut Bytes) -> Result<Self, BadHead> {
        let mut fields = Fields::new(bytes);
        let streaming = fields.flags()?;
        let failure = match fields.byte("status")? {
            0 => None,
            number => Some(Box::new(Failure {
                code: Code::from_number(number),
                message: fields.text("message")?,
                details: fields.bytes(4, "details")?,
            })),
        };
        let head = Self {
            streaming,
            failure,
            content_type: fields.content_type("content type")?,
            headers: fields.metadata()?,
            trailers: fields.metadata()?,
        };
        let end = bytes.len() - fields.rest.len();
        leave_rest(bytes, end);
        Ok(head)
    }
}

/// The head of a request, to where it is needed; whether Messages follow.
pub(crate) fn decode_request(bytes: &mut Bytes, request: &mut Request) -> Result<bool, BadHead> {
    let Request { service, method, content_type, accept, metadata, .. } = request;
    take_request(bytes, [service, method, content_type, accept], metadata)
}

fn take_request(
    bytes: &mut Bytes,
    [service, method, content_type, accept]: [&mut Text; 4],
    metadata: &mut Metadata,
) -> Result<bool, BadHead> {
    let mut fields = Fields::new(bytes);
    let streaming = fields.flags()?;
    *service = fields.short_text("service")?;
    *method = fields.short_text("method")?;
    *content_type = fields.content_type("content type")?;
    *accept = fields.content_type("accept")?;
    *metadata = fields.metadata()?;
    let end = bytes.len() - fields.rest.len();
    leave_rest(bytes, end);
    Ok(streaming)
}

/// The head of a request, from where it is.
pub(crate) fn encode_request(
    request: &Request,
    streaming: bool,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let Request { service, method, content_type, accept, metadata, .. } = request;
    put_request(out, streaming, [service, method, content_type, accept], metadata)
}

fn put_request(
    out: &mut Vec<u8>,
    streaming: bool,
    [service, method, content_type, accept]: [&Text; 4],
    metadata: &Metadata,
) -> Result<(), TooLong> {
    out.push(u8::from(streaming) * STREAMING);
    put_short(out, service, "service")?;
    put_short(out, method, "method")?;
    put_short(out, content_type, "content type")?;
    put_short(out, accept, "accept")?;
    put_metadata(out, metadata)
}

fn put_metadata(out: &mut Vec<u8>, metadata: &Metadata) -> Result<(), TooLong> {
    if metadata.is_empty() {
        out.extend_from_slice(&[0; 2]);
        return Ok(());
    }
    let count = metadata.sent().count();
    if count > MAX_VALUES {
        return Err(TooLong("metadata"));
    }
    let count = count as u16;
    out.extend_from_slice(&count.to_be_bytes());
    for (name, value) in metadata.sent() {
        put_short(out, name, "metadata name")?;
        put(out, value, 2, "metadata value")?;
    }
    Ok(())
}

#[inline]
fn put_short(out: &mut Vec<u8>, text: &Text, field: &'static str) -> Result<(), TooLong> {
    if text.is_empty() {
        out.push(0);
        return Ok(());
    }
    put(out, text.bytes(), 1, field)
}

/// The length in so many bytes, then the bytes.
fn put(out: &mut Vec<u8>, bytes: &[u8], width: u8, field: &'static str) -> Result<(), TooLong> {
    match (width, bytes.len()) {
        (1, len @ 0..=0xff) => out.push(len as u8),
        (2, len @ 0..=0xffff) => out.extend_from_slice(&(len as u16).to_be_bytes()),
        (4, len @ 0..=0xffff_ffff) => out.extend_from_slice(&(len as u32).to_be_bytes()),
        _ => return Err(TooLong(field)),
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// What follows the fields; an empty slice would keep the buffer alive.
fn leave_rest(message: &mut Bytes, at: usize) {
    if at < message.len() {
        message.advance(at);
    } else {
        *message = Bytes::new();
    }
}

/// Fields one after the other, at the front of a message. What they hold shares its memory.
struct Fields<'a> {
    message: &'a Bytes,
    /// What is not taken yet.
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(message: &'a Bytes) -> Self {
        Self { message, rest: message }
    }

    #[inline]
    fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], BadHead> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadHead::CutShort(field))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn byte(&mut self, field: &'static str) -> Result<u8, BadHead> {
        let (byte, rest) = self.rest.split_first().ok_or(BadHead::CutShort(field))?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A number of so many bytes, four at most.
    #[inline]
    fn number(&mut self, width: usize, field: &'static str) -> Result<usize, BadHead> {
        let digits = self.take(width, field)?;
        Ok(digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)))
    }

    /// What follows its own length, a number of so many bytes.
    fn counted(&mut self, width: usize, field: &'static str) -> Result<&'a [u8], BadHead> {
        let len = self.number(width, field)?;
        self.take(len, field)
    }

    fn share(&self, part: &[u8]) -> Bytes {
        // An empty slice would keep the buffer alive.
        if part.is_empty() { Bytes::new() } else { self.message.slice_ref(part) }
    }

    fn bytes(&mut self, width: usize, field: &'static str) -> Result<Bytes, BadHead> {
        self.counted(width, field).map(|part| self.share(part))
    }

    fn text(&mut self, field: &'static str) -> Result<Text, BadHead> {
        Text::parse(self.bytes(2, field)?).ok_or(BadHead::NotText(field))
    }

    fn short_text(&mut self, field: &'static str) -> Result<Text, BadHead> {
        Text::parse(self.bytes(1, field)?).ok_or(BadHead::NotText(field))
    }

    fn content_type(&mut self, field: &'static str) -> Result<Text, BadHead> {
        let part = self.counted(1, field)?;
        match Text::known_type(part) {
            Some(known) => Ok(known),
            None => Text::parse(self.share(part)).ok_or(BadHead::NotText(field)),
        }
    }

    fn flags(&mut self) -> Result<bool, BadHead> {
        match self.byte("flags")? {
            0 => Ok(false),
            STREAMING => Ok(true),
            other => Err(BadHead::UnknownFlags(other)),
        }
    }

    fn metadata(&mut self) -> Result<Metadata, BadHead> {
        let count = self.number(2, "metadata")?;
        if count == 0 {
            return Ok(Metadata::new());
        }
        if count > MAX_VALUES {
            return Err(BadHead::TooMany(u16::try_from(count).unwrap_or(u16::MAX)));
        }
        let mut metadata = Metadata::new();
        for _ in 0..count {
            let name = self.short_text("metadata name")?;
            let value = self.bytes(2, "metadata value")?;
            metadata.receive(name, value);
        }
        Ok(metadata)
    }
}

/// A field of a head is longer than its length field can say, or metadata has more than 1,024
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(&'static str);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} is too long", self.0)
    }
}

impl std::error::Error for TooLong {}

/// What is wrong with a head. It fails that call only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadHead {
    /// It ends within this field.
    CutShort(&'static str),
    /// This field is not UTF-8.
    NotText(&'static str),
    /// Flags that are not defined.
    UnknownFlags(u8),
    /// There are so many values of metadata: more than 1,024 in one place.
    TooMany(u16),
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort(field) => write!(f, "the head ends within its {field}"),
            Self::NotText(field) => write!(f, "the {field} is not UTF-8"),
            Self::UnknownFlags(flags) => write!(f, "unknown flags {flags:#04x} in the head"),
            Self::TooMany(count) => {
                write!(f, "{count} values of metadata, where {MAX_VALUES} are the most")
            }
        }
    }
}

impl std::error::Error for BadHead {}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(head: &RequestHead) -> Vec<u8> {
        let mut out = Vec::new();
        head.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn worked_examples() {
        // spec.md §15.2.4
        let head = RequestHead { method: "Echo.Say".into(), ..RequestHead::default() };
        assert_eq!(encoded(&head), *b"\0\0\x08Echo.Say\0\0\0\0");
        // spec.md §15.3.5
        let mut out = Vec::new();
        ResponseHead::default().encode(&mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0]);
        out.clear();
        let failure = Failure { code: Code::NotFound, message: "no".into(), details: Bytes::new() };
        let head = ResponseHead { failure: Some(Box::new(failure)), ..ResponseHead::default() };
        head.encode(&mut out).unwrap();
        assert_eq!(out, *b"\0\x09\0\x02no\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn request_heads_come_back_as_they_went() {
        fn holds(
            fields: (String, String, String, String),
            metadata: Vec<(String, Vec<u8>)>,
        ) -> bool {
            let cut = |text: String| text.chars().take(60).collect::<String>();
            let mut head = RequestHead {
                streaming: fields.0.len().is_multiple_of(2),
                service: cut(fields.0).into(),
                method: cut(fields.1).into(),
                content_type: cut(fields.2).into(),
                accept: cut(fields.3).into(),
                metadata: Metadata::new(),
            };
            for (name, value) in metadata {
                let name = cut(name);
                head.metadata.append(format!("x{name}"), value);
            }
            let mut bytes = Bytes::from(encoded(&head));
            let whole = bytes.clone();
            let same = RequestHead::decode(&mut bytes) == Ok(head) && bytes.is_empty();
            let cut =
                (0..whole.len()).all(|len| RequestHead::decode(&mut whole.slice(..len)).is_err());
            same && cut
        }
        type Holds = fn((String, String, String, String), Vec<(String, Vec<u8>)>) -> bool;
        quickcheck::quickcheck(holds as Holds);
    }

    #[test]
    fn random_bytes_decode_or_fail_and_never_panic() {
        fn holds(bytes: Vec<u8>) -> bool {
            let _ = RequestHead::decode(&mut Bytes::from(bytes.clone()));
            let _ = ResponseHead::decode(&mut Bytes::from(bytes));
            true
        }
        quickcheck::quickcheck(holds as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn reserved_names_do_not_travel() {
        let mut head = RequestHead::default();
        head.metadata.insert(":peer", "me");
        head.metadata.insert("kept", "1");
        assert!(!encoded(&head).windows(5).any(|bytes| bytes == b":peer"));
        let mut bytes = Bytes::from(encoded(&head));
        let found = RequestHead::decode(&mut bytes).unwrap();
        assert_eq!(found.metadata.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["kept"]);
        // Nor are they believed when a peer sends one.
        let mut bytes = Bytes::from_static(b"\0\0\0\0\0\0\x01\x05:peer\0\x02me");
        assert!(RequestHead::decode(&mut bytes).unwrap().metadata.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let head = RequestHead { method: "m".repeat(256).into(), ..RequestHead::default() };
        assert_eq!(head.encode(&mut Vec::new()), Err(TooLong("method")));
        let mut head = RequestHead::default();
        head.metadata.insert("k", vec![0; 65_536]);
        assert_eq!(head.encode(&mut Vec::new()), Err(TooLong("metadata value")));
    }
}
