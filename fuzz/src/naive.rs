//! The wire format once more, as plainly as it can be put (`spec.md §2`), to compare with.

/// A header, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) stream: u32,
    pub(crate) length: u32,
}

impl Fields {
    pub(crate) const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn body(self) -> usize {
        if self.kind == DATA { self.length as usize } else { 0 }
    }

    pub(crate) fn wire(self) -> Vec<u8> {
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        vec![0, self.kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }
}

pub(crate) const DATA: u8 = 0;
pub(crate) const WINDOW: u8 = 1;
pub(crate) const PING: u8 = 2;
pub(crate) const GO_AWAY: u8 = 3;

pub(crate) const SYN: u16 = 1;
pub(crate) const ACK: u16 = 2;
pub(crate) const FIN: u16 = 4;
pub(crate) const RST: u16 = 8;

pub(crate) const WINDOW_SIZE: u32 = 262_144;

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Version(u8),
    Kind(u8),
}

/// What a whole input means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Headers, each with as much of its body as there is.
    pub(crate) frames: Vec<(Fields, Vec<u8>)>,
    pub(crate) malformed: Option<Malformed>,
    /// Bytes of an incomplete header.
    pub(crate) partial: usize,
    /// Bytes of the last body that are missing.
    pub(crate) missing: usize,
}

pub(crate) fn fields(bytes: &[u8; 12]) -> Result<Fields, Malformed> {
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().fold(0_u32, |sum, byte| sum * 256 + u32::from(*byte))
    };
    if bytes[0] != 0 {
        return Err(Malformed::Version(bytes[0]));
    }
    if bytes[1] > 3 {
        return Err(Malformed::Kind(bytes[1]));
    }
    Ok(Fields {
        kind: bytes[1],
        flags: number(2..4) as u16,
        stream: number(4..8),
        length: number(8..12),
    })
}

pub(crate) fn parse(mut wire: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    while wire.len() >= 12 {
        let mut header = [0; 12];
        header.copy_from_slice(&wire[..12]);
        wire = &wire[12..];
        match fields(&header) {
            Err(malformed) => {
                parsed.malformed = Some(malformed);
                return parsed;
            }
            Ok(fields) => {
                let there = fields.body().min(wire.len());
                parsed.frames.push((fields, wire[..there].to_vec()));
                parsed.missing = fields.body() - there;
                wire = &wire[there..];
            }
        }
    }
    if parsed.missing == 0 {
        parsed.partial = wire.len();
    }
    parsed
}

/// Finds the headers in bytes that come in pieces, and stops at the first malformed one.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    partial: Vec<u8>,
    left: usize,
    malformed: bool,
}

impl Splitter {
    /// Calls `found` with every header that `bytes` complete.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(Result<Fields, Malformed>),
    ) {
        while !bytes.is_empty() && !self.malformed {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (12 - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let Ok(header) = <[u8; 12]>::try_from(self.partial.as_slice()) {
                self.partial.clear();
                let header = fields(&header);
                self.left = header.map_or(0, Fields::body);
                self.malformed = header.is_err();
                found(header);
            }
        }
    }

    /// Bytes of the current body still to come; `None` within a header or after a malformed one.
    pub(crate) fn missing(&self) -> Option<usize> {
        (self.partial.is_empty() && !self.malformed).then_some(self.left)
    }
}
