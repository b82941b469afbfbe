//! Request/reply sockets, wire-compatible with nng and mangos.
