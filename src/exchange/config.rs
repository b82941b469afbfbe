//! The limits of an exchange, by name.

use crate::ConfigError;

/// The limits of exchanges (`spec.md §14.6`). Cheap to copy.
///
/// ```
/// use trunkline::exchange::ExchangeConfig;
///
/// let config = ExchangeConfig::builder().max_message(1 << 20).build()?;
/// # Ok::<(), trunkline::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeConfig {
    pub(crate) max_message: usize,
    pub(crate) fragment: usize,
}

impl ExchangeConfig {
    /// A builder that starts from the defaults.
    pub fn builder() -> ExchangeConfigBuilder {
        ExchangeConfigBuilder { config: Self::default() }
    }
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self { max_message: 4 << 20, fragment: 256 << 10 }
    }
}

/// Builds an [`ExchangeConfig`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ExchangeConfigBuilder {
    config: ExchangeConfig,
}

impl ExchangeConfigBuilder {
    /// The largest message that is sent or received, in bytes; at least 1, at most 4,294,967,295. A
    /// larger one is not sent; receiving one ends the exchange. Default 4 MiB, because a message is
    /// held in memory whole.
    pub const fn max_message(mut self, bytes: usize) -> Self {
        self.config.max_message = bytes;
        self
    }

    /// The largest fragment that is sent, in bytes; at least 1, at most 16 MiB. Default 256 KiB,
    /// the window a stream starts with.
    pub const fn fragment(mut self, bytes: usize) -> Self {
        self.config.fragment = bytes;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the first value that is out of its range.
    pub fn build(self) -> Result<ExchangeConfig, ConfigError> {
        let config = self.config;
        if config.max_message == 0 || config.max_message > u32::MAX as usize {
            return Err(ConfigError::new("max_message", "1 to 4294967295"));
        }
        if config.fragment == 0 || config.fragment > MAX_FRAGMENT {
            return Err(ConfigError::new("fragment", "1 to 16777216"));
        }
        Ok(config)
    }
}

pub(crate) const MAX_FRAGMENT: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        let field = |builder: ExchangeConfigBuilder| builder.build().unwrap_err().field();
        let builder = ExchangeConfig::builder();
        assert_eq!(field(builder.max_message(0)), "max_message");
        assert_eq!(field(builder.fragment(0)), "fragment");
        assert_eq!(field(builder.fragment(MAX_FRAGMENT + 1)), "fragment");
        assert!(builder.fragment(1).max_message(1).build().is_ok());
    }
}
