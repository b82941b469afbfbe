//! `scheme://rest`.

use std::{fmt, str::FromStr};

/// Where to connect or listen: a scheme, and what its transport makes of the rest.
///
/// ```
/// use trunkline::transport::Address;
///
/// let address = Address::parse("tcp://localhost:4000")?;
/// assert_eq!((address.scheme(), address.rest()), ("tcp", "localhost:4000"));
/// assert_eq!(address.to_string(), "tcp://localhost:4000");
/// assert!(Address::parse("localhost").is_err());
/// # Ok::<(), trunkline::transport::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: String,
    rest: String,
}

impl Address {
    /// Puts an address together.
    pub fn new(scheme: &str, rest: impl fmt::Display) -> Self {
        Self { scheme: scheme.to_ascii_lowercase(), rest: rest.to_string() }
    }

    /// Takes an address apart.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if it is not of the form `scheme://rest`, with neither part empty.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| AddressError(text.into()))?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || rest.is_empty() || !scheme.chars().all(named) {
            return Err(AddressError(text.into()));
        }
        Ok(Self::new(scheme, rest))
    }

    /// What stands before `://`, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands behind `://`.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.rest)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// A text is not of the form `scheme://rest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not of the form scheme://rest", self.0)
    }
}

impl std::error::Error for AddressError {}
