//! `scheme://rest`.

use std::{fmt, str::FromStr};

/// Where to connect to or listen on: a scheme that names the transport, and what that makes of the
/// rest. Host names are looked up at every attempt, not here.
///
/// ```
/// use trunkline::transport::Address;
///
/// let address = Address::parse("tcp://127.0.0.1:5555")?;
/// assert_eq!((address.scheme(), address.rest()), ("tcp", "127.0.0.1:5555"));
/// assert!(Address::parse("foo").is_err());
/// # Ok::<(), trunkline::transport::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: String,
    rest: String,
}

impl Address {
    /// An address from its parts.
    pub fn new(scheme: impl Into<String>, rest: impl Into<String>) -> Self {
        Self { scheme: scheme.into(), rest: rest.into() }
    }

    /// Reads `scheme://rest`. With `tcp` the rest must be `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if it is no such thing.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refuse = || AddressError(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(refuse)?;
        let named = !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !named || rest.is_empty() || (scheme == "tcp" && !is_host_and_port(rest)) {
            return Err(refuse());
        }
        Ok(Self::new(scheme, rest))
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands behind `://`.
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

fn is_host_and_port(rest: &str) -> bool {
    rest.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !port.is_empty() && port.parse::<u16>().is_ok()
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.rest)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an address: want scheme://rest, such as tcp://HOST:PORT", self.0)
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_rest() {
        for good in ["tcp://h:1", "tcp://[::1]:80", "ipc:///tmp/x", "mux+tcp://h:1", "memory://a"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "foo",
            "",
            "://x",
            "tcp://",
            "tcp://h",
            "tcp://h:",
            "tcp://:1",
            "tcp://h:x1",
            "tcp://h:70000",
            "a b://x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
