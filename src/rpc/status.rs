//! How a call failed.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;

use super::{BoxError, Code, Text};
use crate::exchange::ExchangeError;

/// How a call failed: a class, words for people, and details for programs. Handlers return one, and
/// callers get one whatever went wrong. Cheap to clone.
///
/// ```
/// use trunkline::rpc::{Code, Status};
///
/// let status = Status::new(Code::NotFound, "no such user").with_details("{\"id\":7}");
/// assert_eq!(status.to_string(), "not found: no such user");
/// ```
#[derive(Clone, Debug)]
pub struct Status {
    code: Code,
    message: Text,
    details: Bytes,
    /// No handler can have seen the call.
    reached_nobody: bool,
    /// It came from the other side.
    remote: bool,
    /// The message says what `inner` says: the cause is what is behind that.
    spoken: bool,
    inner: Option<Arc<dyn Error + Send + Sync>>,
}

/// Whether a call that failed may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retryable {
    /// Yes: it certainly reached no handler.
    Always,
    /// Only if it is idempotent: it may have been done, and another attempt may succeed.
    IfIdempotent,
    /// No: it would fail again.
    Never,
}

impl Status {
    /// A failure of this class, explained in words.
    pub fn new(code: Code, message: impl Into<Text>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Bytes::new(),
            reached_nobody: false,
            remote: false,
            spoken: false,
            inner: None,
        }
    }

    /// Adds details for programs, which travel with it.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds a cause, which does not travel.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner = Some(Arc::from(source.into()));
        self.spoken = false;
        self
    }

    /// The message says what this error says, too.
    pub(crate) fn speaking_for(self, error: impl Into<BoxError>) -> Self {
        Self { spoken: true, ..self.with_source(error) }
    }

    /// The class of the failure.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What went wrong, in words. Up to 4,096 characters travel.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details for programs, in whatever form the application gives them.
    pub const fn details(&self) -> &Bytes {
        &self.details
    }

    /// The error that this status was made of, or was given as its cause. Where the message says
    /// already what that error says, [`source`](Error::source) is what is behind it, so that a chain
    /// of errors says nothing twice.
    ///
    /// ```
    /// use trunkline::rpc::{Code, Status};
    ///
    /// let status = Status::from_error("the cellar is full".into());
    /// assert_eq!(status.to_string(), "declined: the cellar is full");
    /// assert!(status.inner().is_some());
    /// ```
    pub fn inner(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.inner.as_deref()
    }

    /// Whether the other side sent it, rather than this side found it.
    pub const fn is_remote(&self) -> bool {
        self.remote
    }

    /// Whether the call may be made again.
    pub const fn retryable(&self) -> Retryable {
        if self.reached_nobody {
            return Retryable::Always;
        }
        match self.code {
            Code::Busy | Code::Network | Code::Unavailable => Retryable::IfIdempotent,
            _ => Retryable::Never,
        }
    }

    /// The status inside an error of middleware. An error of another kind becomes
    /// [`Code::Declined`], in the words of the error, which is [`inner`](Self::inner).
    #[must_use]
    pub fn from_error(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(status) => *status,
            Err(error) => Self::new(Code::Declined, error.to_string()).speaking_for(error),
        }
    }

    pub(crate) const fn reaching_nobody(mut self) -> Self {
        self.reached_nobody = true;
        self
    }

    pub(crate) fn from_remote(code: Code, message: Text, details: Bytes) -> Self {
        Self { details, remote: true, ..Self::new(code, message) }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Code::Timeout, "the deadline passed")
    }
}

impl From<ExchangeError> for Status {
    fn from(error: ExchangeError) -> Self {
        if let ExchangeError::Remote { code, message } = error {
            return Self::from_remote(code, message.into(), Bytes::new());
        }
        let reached_nobody = error.reached_nobody() && !matches!(error, ExchangeError::TooLarge(_));
        let status = match &error {
            ExchangeError::Timeout => return Self::timeout(),
            ExchangeError::Cancelled => {
                return Self::new(Code::Cancelled, "the call was given up");
            }
            other => Self::new(other.code(), other.to_string()),
        };
        Self { reached_nobody, ..status.speaking_for(error) }
    }
}

impl PartialEq for Status {
    fn eq(&self, other: &Self) -> bool {
        (self.code, &self.message, &self.details) == (other.code, &other.message, &other.details)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return self.code.fmt(f);
        }
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Error for Status {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let inner = self.inner.as_deref()?;
        if self.spoken { inner.source() } else { Some(inner) }
    }
}
