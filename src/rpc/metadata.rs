//! What travels beside a body.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::Text;

/// Names and values beside a request or a response. A name may come more than once, and its case
/// does not matter. Names that begin with a colon are reserved: they are neither sent nor received.
/// At most 1,024 values travel, with names of up to 255 bytes and values of up to 65,535.
///
/// ```
/// use trunkline::rpc::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("Trace-Id", "7");
/// assert_eq!(metadata.text("trace-id"), Some("7"));
/// ```
///
/// Cloning shares the values until one of the clones changes.
#[derive(Clone, Default)]
pub struct Metadata {
    /// One word where there is none, the usual case: each call holds half a dozen of these.
    entries: Option<Arc<Vec<(Text, Bytes)>>>,
}

impl Metadata {
    /// Metadata without values.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: None }
    }

    fn entries(&self) -> &[(Text, Bytes)] {
        self.entries.as_ref().map_or(&[], |entries| entries)
    }

    fn entries_mut(&mut self) -> &mut Vec<(Text, Bytes)> {
        Arc::make_mut(self.entries.get_or_insert_default())
    }

    /// Sets a value, in place of all others of this name.
    pub fn insert(&mut self, name: impl Into<Text>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.append(name, value);
    }

    /// Adds a value beside others of this name.
    pub fn append(&mut self, name: impl Into<Text>, value: impl Into<Bytes>) {
        self.entries_mut().push((name.into(), value.into()));
    }

    /// Removes all values of a name.
    pub fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.entries_mut().retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        }
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let found = self.entries().iter().find(|(present, _)| present.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// The first value of a name, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries().iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Appends all values of `other`.
    pub fn extend(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            self.entries_mut().extend_from_slice(other.entries());
        }
    }

    /// What travels: all but the reserved.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &(Text, Bytes)> {
        self.entries().iter().filter(|(name, _)| !is_reserved(name))
    }

    pub(crate) fn receive(&mut self, name: Text, value: Bytes) {
        if !is_reserved(&name) {
            self.append(name, value);
        }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Metadata {}

fn is_reserved(name: &Text) -> bool {
    name.bytes().first() == Some(&b':')
}
