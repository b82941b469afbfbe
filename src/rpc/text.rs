//! Short strings that share the buffer they arrived in.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
};

use bytes::Bytes;

use super::codec::KNOWN_TYPES;

/// A string that is cheap to clone, and free to make from a `&'static str`.
#[derive(Clone)]
pub struct Text(Inner);

#[derive(Clone)]
enum Inner {
    Static(&'static str),
    /// Valid UTF-8: it was checked when it was made.
    Shared(Bytes),
}

impl Text {
    /// A text that is neither allocated nor copied.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Inner::Static(text))
    }

    /// `None` if it is not UTF-8.
    pub(crate) fn parse(bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let valid = bytes.is_ascii() || std::str::from_utf8(&bytes).is_ok();
        valid.then_some(Self(Inner::Shared(bytes)))
    }

    /// Of what mostly is one of a few: those need no buffer and no checking.
    pub(crate) fn known_type(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let known = KNOWN_TYPES.iter().find(|known| known.as_bytes() == bytes)?;
        Some(Self::from_static(known))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::Static(text) => text.as_bytes(),
            Inner::Shared(bytes) => bytes,
        }
    }

    /// As a string slice.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::Static(text) => text,
            Inner::Shared(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::from_static("")
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Inner::Shared(text.into()))
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.bytes() == other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn a_text_is_what_it_says_wherever_it_lies() {
        let texts = ["", "a", "application/json", "application/octet-stream", "\u{e9}t\u{e9}"];
        let state = std::hash::RandomState::new();
        for text in texts {
            let fixed = Text::from_static(text);
            let own = Text::from(text.to_owned());
            let parsed = Text::parse(text.into()).unwrap();
            let of_type = Text::known_type(text.as_bytes());
            for other in [own, parsed].into_iter().chain(of_type) {
                assert_eq!(fixed, other);
                assert_eq!(state.hash_one(&fixed), state.hash_one(&other));
                assert_eq!((&*other, other.is_empty()), (text, text.is_empty()));
            }
            assert!(texts.iter().all(|b| fixed.cmp(&Text::from_static(b)) == text.cmp(*b)));
        }
        assert!(Text::parse(Bytes::from_static(b"\xff")).is_none());
        assert!(Text::known_type(b"\xff").is_none());
    }
}
