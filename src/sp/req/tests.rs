//! What cannot be reached from outside within a test's time.

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Failure, HIGH_BIT, Req};
use crate::sp::{options::Options, pattern::Base};

#[test]
fn ids_wrap_and_pass_over_those_of_open_requests() {
    // spec.md §13.4.2
    let options = Options::default();
    let mut req = Req::new(&options);
    let call = options.call();
    let mut base = Base::new(Instant::now(), options);
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

#[test]
fn a_receive_that_is_over_leaves_no_deadline() {
    let options = Options::builder().retry(None).build().unwrap();
    let call = options.call();
    let mut req = Req::new(&options);
    let now = Instant::now();
    let mut base = Base::new(now, options);
    let hour = Duration::from_secs(3_600);
    let slot = req.open_context(&base).unwrap();
    // Of one request, given up again and again.
    req.start(&mut base, slot, Bytes::new(), call).unwrap();
    for _ in 0..1_000 {
        let key = req.begin_recv(&mut base, slot, Some(hour)).unwrap();
        req.end_recv(&mut base, key);
    }
    // Of many, whose end was there already.
    let cx = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        let key = req.start(&mut base, slot, Bytes::new(), call).unwrap();
        req.finish(&mut base, key, Err(Failure::NoReply));
        req.begin_recv(&mut base, slot, Some(hour)).unwrap();
        assert!(req.poll_reply(&mut base, key, &cx).is_ready());
    }
    let left = std::iter::from_fn(|| base.deadlines.pop_due(now + hour)).count();
    assert!(left < 200, "{left}");
}
