//! What a whole session left on the wire, once both ends are done.
//!
//! The monitor of the fuzz targets judges one end by what it had received, whoever the other is.
//! Here both are honest and more holds: no id is left out, and every stream comes to its end.

use std::collections::HashMap;

use trunkline::frame::{Flags, Kind};

use crate::sim::{Seen, Sim};

/// The order of frames in both directions (`spec.md §6`).
pub(crate) fn check_wire(sim: &Sim) {
    let mut trails = [HashMap::new(), HashMap::new()];
    for (end, trails) in trails.iter_mut().enumerate() {
        let mut next_id = if end == 0 { 1 } else { 2 };
        let mut gone = None;
        for seen in sim.seen_from(end) {
            // §6.3: the closing GoAway is the last frame, `go_away` may send one before.
            assert!(gone != Some(2), "a frame behind the last: {seen:?}");
            match seen.header.kind {
                Kind::Data | Kind::WindowUpdate => check_frame(end, trails, &mut next_id, seen),
                Kind::Ping => {}
                Kind::GoAway => {
                    assert_eq!(seen.header.length, 0);
                    gone = Some(gone.unwrap_or(0) + 1);
                }
            }
        }
    }
    let [ours, theirs] = &trails;
    for id in ours.keys().chain(theirs.keys()) {
        let trail = |side: &HashMap<u32, Trail>| side.get(id).copied().unwrap_or_default();
        let (one, other) = (trail(ours), trail(theirs));
        let reset = one.reset || other.reset;
        assert!(reset || (one.finished && other.finished), "stream {id} without an end");
    }
}

fn check_frame(end: usize, trails: &mut HashMap<u32, Trail>, next_id: &mut u32, seen: &Seen) {
    let header = seen.header;
    let trail = trails.entry(header.stream.0).or_default();
    let ours = (header.stream.0 % 2 == 1) == (end == 0);
    // §6.1, §4.2.3: SYN is on the first frame and no other, and ids leave in order.
    assert_eq!(header.flags.contains(Flags::SYN), ours && trail.frames == 0, "{header}");
    if header.flags.contains(Flags::SYN) {
        assert_eq!(header.stream.0, *next_id, "ids out of order");
        *next_id += 2;
    }
    // §6.2: nothing follows RST; after FIN only credit and RST do.
    assert!(!trail.reset, "behind RST: {header}");
    assert!(!trail.finished || header.kind == Kind::WindowUpdate, "data behind FIN: {header}");
    if header.flags.contains(Flags::FIN) {
        // §4.5.4, §4.5.5: alone, and once.
        assert_eq!(header.length, 0, "FIN is not alone: {header}");
        assert!(!header.flags.contains(Flags::SYN) && !trail.finished, "{header}");
    }
    if header.flags.contains(Flags::ACK) {
        // §4.3.5: once, from the one who accepted.
        assert!(!ours && !trail.acked, "{header}");
    }
    // §2.8.
    assert_eq!(header.flags.0 & !0xf, 0, "{header}");
    trail.acked |= header.flags.contains(Flags::ACK);
    trail.finished |= header.flags.contains(Flags::FIN);
    trail.reset |= header.flags.contains(Flags::RST);
    trail.frames += 1;
}

/// What one direction of one stream has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Trail {
    frames: u32,
    acked: bool,
    finished: bool,
    reset: bool,
}
