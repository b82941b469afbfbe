//! What travels beside a body.

use bytes::Bytes;

use super::Text;

/// Names and values beside a request or a response. A name may come more than once; case does not
/// matter. Names that begin with a colon are reserved: they are neither sent nor received.
///
/// ```
/// use trunkline::rpc::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.insert("Trace-Id", "7");
/// assert_eq!(metadata.text("trace-id"), Some("7"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(Text, Bytes)>,
}

impl Metadata {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a value, in place of all of this name.
    pub fn insert(&mut self, name: impl Into<Text>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.entries.push((name, value.into()));
    }

    /// Adds a value, beside others of this name.
    pub fn append(&mut self, name: impl Into<Text>, value: impl Into<Bytes>) {
        self.entries.push((name.into(), value.into()));
    }

    /// Removes all values of a name.
    pub fn remove(&mut self, name: &str) {
        self.entries.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let found = self.entries.iter().find(|(present, _)| present.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// The first value of a name, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many values there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// What travels: all but the reserved.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &(Text, Bytes)> {
        self.entries.iter().filter(|(name, _)| !is_reserved(name))
    }

    pub(crate) fn receive(&mut self, name: Text, value: Bytes) {
        if !is_reserved(&name) {
            self.entries.push((name, value));
        }
    }
}

fn is_reserved(name: &Text) -> bool {
    name.bytes().first() == Some(&b':')
}
