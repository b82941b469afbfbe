//! The heads of RPC decode or fail, and come back as they went (`spec.md §15.2`, `§15.3`).

use bytes::Bytes;
use trunkline::rpc::wire::{RequestHead, ResponseHead};

use super::memory;

/// The first byte chooses which; the rest is the wire.
pub fn heads(data: &[u8]) {
    let Some((which, wire)) = data.split_first() else { return };
    let before = memory::allocations();
    let mut rest = Bytes::copy_from_slice(wire);
    let mut encoded = Vec::new();
    if which & 1 == 0 {
        let Ok(head) = RequestHead::decode(&mut rest) else { return };
        head.encode(&mut encoded).expect("what fitted once fits again");
        let mut rest = Bytes::from(encoded);
        assert_eq!(RequestHead::decode(&mut rest), Ok(head));
        assert!(rest.is_empty());
    } else {
        let Ok(head) = ResponseHead::decode(&mut rest) else { return };
        head.encode(&mut encoded).expect("what fitted once fits again");
        let mut rest = Bytes::from(encoded);
        assert_eq!(ResponseHead::decode(&mut rest), Ok(head));
        assert!(rest.is_empty());
    }
    // Each name and value needs three bytes at least: nothing is allocated for a promise.
    let allocated = memory::allocations() - before;
    assert!(allocated as usize <= 40 + wire.len(), "{allocated} allocations");
}
