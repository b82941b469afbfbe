//! How values become bodies: bytes, JSON, protobuf, or your own. Chosen by content type.
//!
//! A codec of one's own takes three short traits:
//!
//! ```
//! use bytes::Bytes;
//! use trunkline::rpc::{BoxError, Router, codec::{Codec, Decode, Encode}};
//!
//! /// Numbers as decimal text.
//! #[derive(Clone)]
//! struct Decimal;
//!
//! impl Codec for Decimal {
//!     fn default_type(&self) -> &'static str {
//!         "text/plain"
//!     }
//! }
//!
//! impl Encode<u64> for Decimal {
//!     fn encode(&self, _content_type: &str, value: &u64) -> Result<Bytes, BoxError> {
//!         Ok(value.to_string().into())
//!     }
//! }
//!
//! impl Decode<u64> for Decimal {
//!     fn decode(&self, _content_type: &str, body: Bytes) -> Result<u64, BoxError> {
//!         Ok(std::str::from_utf8(&body)?.parse()?)
//!     }
//! }
//!
//! let mut router = Router::with_codec(Decimal);
//! router.unary("Sum.Double", |_ctx, number: u64| async move { Ok(number * 2) })?;
//! # Ok::<(), trunkline::rpc::RegisterError>(())
//! ```

use bytes::Bytes;

use super::{BoxError, Code, Status, Text};

/// One or several ways to encode bodies, told apart by their content type. Calls take clones: what
/// is large in a codec is better shared.
pub trait Codec: Clone + Send + Sync + 'static {
    /// The content type of bodies for which none is named.
    fn default_type(&self) -> &'static str;

    /// Whether bodies of this content type can be encoded and decoded.
    fn supports(&self, content_type: &str) -> bool {
        content_type == self.default_type()
    }
}

/// Turns values into bodies.
pub trait Encode<T: ?Sized>: Codec {
    /// Encodes a value in a content type that is supported.
    ///
    /// # Errors
    ///
    /// Why this value cannot be encoded.
    fn encode(&self, content_type: &str, value: &T) -> Result<Bytes, BoxError>;

    /// The same for a value that nobody needs any more: worth writing where it can become the body
    /// as it is.
    ///
    /// # Errors
    ///
    /// Why this value cannot be encoded.
    fn encode_owned(&self, content_type: &str, value: T) -> Result<Bytes, BoxError>
    where
        T: Sized,
    {
        self.encode(content_type, &value)
    }
}

/// Turns bodies into values.
pub trait Decode<T>: Codec {
    /// Decodes a body in a content type that is supported.
    ///
    /// # Errors
    ///
    /// Why this body cannot be decoded.
    fn decode(&self, content_type: &str, body: Bytes) -> Result<T, BoxError>;
}

/// Bodies as they are: `application/octet-stream`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    fn default_type(&self) -> &'static str {
        BYTES
    }
}

impl Encode<Bytes> for Raw {
    fn encode(&self, _: &str, value: &Bytes) -> Result<Bytes, BoxError> {
        Ok(value.clone())
    }

    fn encode_owned(&self, _: &str, value: Bytes) -> Result<Bytes, BoxError> {
        Ok(value)
    }
}

impl Decode<Bytes> for Raw {
    fn decode(&self, _: &str, body: Bytes) -> Result<Bytes, BoxError> {
        Ok(body)
    }
}

/// JSON, by serde: `application/json`.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    fn default_type(&self) -> &'static str {
        JSON
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize + ?Sized> Encode<T> for Json {
    fn encode(&self, _: &str, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> Decode<T> for Json {
    fn decode(&self, _: &str, body: Bytes) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(&body)?)
    }
}

/// Protocol buffers, by prost: `application/protobuf`.
#[cfg(feature = "protobuf")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Protobuf;

#[cfg(feature = "protobuf")]
impl Codec for Protobuf {
    fn default_type(&self) -> &'static str {
        PROTOBUF
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message> Encode<T> for Protobuf {
    fn encode(&self, _: &str, value: &T) -> Result<Bytes, BoxError> {
        Ok(value.encode_to_vec().into())
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message + Default> Decode<T> for Protobuf {
    fn decode(&self, _: &str, body: Bytes) -> Result<T, BoxError> {
        Ok(T::decode(body)?)
    }
}

/// Two codecs: the one that supports the content type is used, and the first where none is named.
impl<A: Codec, B: Codec> Codec for (A, B) {
    fn default_type(&self) -> &'static str {
        self.0.default_type()
    }

    fn supports(&self, content_type: &str) -> bool {
        self.0.supports(content_type) || self.1.supports(content_type)
    }
}

impl<T: ?Sized, A: Encode<T>, B: Encode<T>> Encode<T> for (A, B) {
    fn encode(&self, content_type: &str, value: &T) -> Result<Bytes, BoxError> {
        match self.0.supports(content_type) {
            true => self.0.encode(content_type, value),
            false => self.1.encode(content_type, value),
        }
    }

    fn encode_owned(&self, content_type: &str, value: T) -> Result<Bytes, BoxError>
    where
        T: Sized,
    {
        match self.0.supports(content_type) {
            true => self.0.encode_owned(content_type, value),
            false => self.1.encode_owned(content_type, value),
        }
    }
}

impl<T, A: Decode<T>, B: Decode<T>> Decode<T> for (A, B) {
    fn decode(&self, content_type: &str, body: Bytes) -> Result<T, BoxError> {
        match self.0.supports(content_type) {
            true => self.0.decode(content_type, body),
            false => self.1.decode(content_type, body),
        }
    }
}

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/protobuf";

/// What is cheap to receive, whoever supports it.
pub(crate) const KNOWN_TYPES: [&str; 3] = [BYTES, JSON, PROTOBUF];

/// The content type to use: the one named, if it is supported, or the default.
pub(crate) fn agree(codec: &impl Codec, named: &Text) -> Result<Text, Status> {
    if named.is_empty() {
        return Ok(codec.default_type().into());
    }
    agreed(codec, named).map(|_| named.clone())
}

/// The same, for who only looks at it.
pub(crate) fn agreed<'a>(codec: &impl Codec, named: &'a Text) -> Result<&'a str, Status> {
    if named.is_empty() {
        return Ok(codec.default_type());
    }
    if codec.supports(named) {
        return Ok(named);
    }
    Err(Status::new(Code::UnsupportedType, format!("content type {named} is not supported")))
}
