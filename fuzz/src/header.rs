//! Decoding a header is total, and encoding is its inverse (`spec.md §2`).

use trunkline::frame::{HEADER_LEN, Header, HeaderError};

use super::naive;

/// Decodes each twelve bytes of `data`.
pub fn header(data: &[u8]) {
    for bytes in data.chunks(HEADER_LEN) {
        let mut padded = [0; HEADER_LEN];
        padded[..bytes.len()].copy_from_slice(bytes);
        one(&padded);
    }
}

fn one(bytes: &[u8; HEADER_LEN]) {
    match (Header::decode(bytes), naive::fields(bytes)) {
        (Ok(header), Ok(fields)) => {
            assert_eq!(header.encode(), *bytes, "encoding is the inverse of decoding");
            assert_eq!(Header::decode(&header.encode()), Ok(header));
            assert_eq!(header.kind as u8, fields.kind);
            assert_eq!(header.flags.0, fields.flags);
            assert_eq!(header.stream.0, fields.stream);
            assert_eq!(header.length, fields.length);
            assert_eq!(header.body_len() as usize, fields.body());
            assert_eq!(fields.wire(), bytes);
            assert!(!header.to_string().is_empty());
        }
        (Err(HeaderError::UnsupportedVersion(a)), Err(naive::Malformed::Version(b))) => {
            assert_eq!(a, b);
        }
        (Err(HeaderError::UnknownKind(a)), Err(naive::Malformed::Kind(b))) => assert_eq!(a, b),
        (ours, naive) => panic!("{bytes:02x?}: {ours:?}, but {naive:?}"),
    }
}
