//! Message exchanges: one stream, one exchange of typed messages.
