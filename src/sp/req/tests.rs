//! What cannot be reached from outside within a test's time.

use bytes::Bytes;

use super::{HIGH_BIT, Req};
use crate::sp::{options::Options, pattern::Base};

#[test]
fn ids_wrap_and_pass_over_those_of_open_requests() {
    // spec.md §13.4.2
    let options = Options::default();
    let mut req = Req::new(&options);
    let call = options.call();
    let mut base = Base::new(std::time::Instant::now(), options);
    let mut start = |req: &mut Req| {
        let slot = req.open_context(&base).unwrap();
        req.start(&mut base, slot, Bytes::new(), call).unwrap().id
    };
    req.last_id = u32::MAX - 1;
    assert_eq!(start(&mut req), u32::MAX);
    assert_eq!([start(&mut req), start(&mut req)], [HIGH_BIT, HIGH_BIT + 1]);
    req.last_id = u32::MAX - 1;
    assert_eq!(start(&mut req), HIGH_BIT + 2, "three ids are in use");
}
