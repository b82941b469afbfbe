//! Remote procedure calls over exchanges.
