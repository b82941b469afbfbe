//! The state table: as a function, and as the wire shows it.

use super::wire::{ACK, FIN, NONE, RST, SYN, Wire, data, parse, update};
use crate::{
    ResetCode, Violation,
    frame::{Flags, Frame},
    proto::{Half, Input, Slot, State, Verdict},
};

const STATES: [State; 8] = [
    State::Init,
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::LocalClosed,
    State::RemoteClosed,
    State::Closed,
    State::Reset,
];

const INPUTS: [Input; 9] = [
    Input::SynStaged,
    Input::AckStaged,
    Input::Syn,
    Input::Ack,
    Input::Fin,
    Input::Rst,
    Input::Data,
    Input::Close,
    Input::Drop,
];

// spec.md §4.7.4, §4.7.5
#[test]
fn every_state_has_the_answer_of_the_table_for_every_input() {
    let mut table = String::new();
    for state in STATES {
        table += &format!("{state:?}:");
        for input in INPUTS {
            table += &match state.on(input) {
                Verdict::Next(next) if next == state => " same".to_owned(),
                Verdict::Next(next) => format!(" {next:?}"),
                Verdict::Ignore => " -".to_owned(),
                Verdict::ResetStream => " reset!".to_owned(),
                Verdict::Forget => " forget!".to_owned(),
                Verdict::EndSession => " end!".to_owned(),
            };
        }
        table += "\n";
    }
    //   SYN staged, ACK staged, SYN, ACK, FIN, RST, Data, close, drop
    let expected = "\
Init: SynSent - end! - - Reset - LocalClosed forget!
SynSent: - - end! Established RemoteClosed Reset same LocalClosed reset!
SynReceived: - Established end! - RemoteClosed Reset same LocalClosed reset!
Established: - - end! - RemoteClosed Reset same LocalClosed reset!
LocalClosed: - - end! - Closed Reset same - -
RemoteClosed: - - end! - - Reset reset! Closed reset!
Closed: - - end! - - Reset reset! - -
Reset: - - end! - - same - - -
";
    assert_eq!(table, expected);
}

// spec.md §4.7.1
#[test]
fn what_a_state_allows() {
    for state in STATES {
        let ended = matches!(state, State::Closed | State::Reset);
        assert_eq!(state.is_terminal(), ended, "{state:?}");
        assert_eq!(state.can_write(), !ended && state != State::LocalClosed, "{state:?}");
        assert_eq!(state.can_receive(), !ended && state != State::RemoteClosed, "{state:?}");
    }
}

/// A way to a state: the core, the id, and the stream's slot if it has one.
type Setup = (&'static str, fn() -> (Wire, u32, Option<Slot>));

fn established(mut wire: Wire) -> (Wire, u32, Option<Slot>) {
    let slot = wire.established();
    (wire, 1, Some(slot))
}

fn inbound() -> (Wire, u32, Option<Slot>) {
    let mut wire = Wire::server();
    let slot = wire.inbound(1);
    (wire, 1, Some(slot))
}

fn finished_here((mut wire, id, slot): (Wire, u32, Option<Slot>)) -> (Wire, u32, Option<Slot>) {
    wire.core.finish(slot.unwrap()).unwrap();
    wire.sent();
    (wire, id, slot)
}

fn finished_there((mut wire, id, slot): (Wire, u32, Option<Slot>)) -> (Wire, u32, Option<Slot>) {
    wire.feed(&[update(id, FIN, 0)]);
    (wire, id, slot)
}

const SETUPS: [Setup; 19] = [
    ("Absent, id 0", || (Wire::client(), 0, None)),
    ("Absent, never opened, ours", || (Wire::client(), 1, None)),
    ("Absent, never opened, theirs", || (Wire::server(), 1, None)),
    ("Absent, finished, ours", || {
        let (mut wire, id, slot) = finished_there(finished_here(established(Wire::client())));
        wire.core.release(slot.unwrap(), Half::Both);
        (wire, id, None)
    }),
    ("Absent, finished, theirs", || {
        let (mut wire, id, slot) = finished_here(finished_there(inbound()));
        wire.core.release(slot.unwrap(), Half::Both);
        (wire, id, None)
    }),
    ("SynSent", || {
        let mut wire = Wire::client();
        let slot = wire.open();
        (wire, 1, Some(slot))
    }),
    ("SynReceived, not accepted", || {
        let mut wire = Wire::server();
        wire.feed(&[update(1, SYN, 0)]);
        let slot = wire.core.accept_queue[0];
        (wire, 1, Some(slot))
    }),
    ("SynReceived, accepted", || {
        let mut wire = Wire::server();
        wire.feed(&[update(1, SYN, 0)]);
        let slot = wire.accept();
        (wire, 1, Some(slot))
    }),
    ("Established, ours", || established(Wire::client())),
    ("Established, theirs", inbound),
    ("LocalClosed, ours", || finished_here(established(Wire::client()))),
    ("LocalClosed, theirs", || finished_here(inbound())),
    ("RemoteClosed, ours", || finished_there(established(Wire::client()))),
    ("RemoteClosed, theirs", || finished_there(inbound())),
    ("Closed, theirs", || finished_here(finished_there(inbound()))),
    ("Closed, FIN not staged", || {
        let (mut wire, id, slot) = finished_there(inbound());
        wire.core.finish(slot.unwrap()).unwrap();
        (wire, id, slot)
    }),
    ("Reset by the peer", || {
        let (mut wire, id, slot) = inbound();
        wire.feed(&[update(id, RST, 256)]);
        (wire, id, slot)
    }),
    ("Reset here", || {
        let (mut wire, id, slot) = inbound();
        wire.core.reset(slot.unwrap(), ResetCode(256));
        wire.sent();
        (wire, id, slot)
    }),
    ("Reset here, RST not staged", || {
        let (mut wire, id, slot) = inbound();
        wire.core.reset(slot.unwrap(), ResetCode(256));
        (wire, id, slot)
    }),
];

fn flags(flags: Flags) -> String {
    flags.to_string()
}

/// What the stream is, and what was sent, after something happened to it.
fn describe(wire: &mut Wire, slot: Option<Slot>, events: &str) -> String {
    if let Some(rule) = wire.rule() {
        return format!("{rule:?}");
    }
    let sent: Vec<_> = parse(&wire.sent_bytes())
        .into_iter()
        .map(|frame| match frame {
            Frame::WindowUpdate { flags, delta, .. } if flags == RST => format!("RST({delta})"),
            Frame::WindowUpdate { flags: bits, delta: 0, .. } => flags(bits),
            Frame::WindowUpdate { delta, .. } => format!("+{delta}"),
            Frame::Data { body, .. } => format!("Data({})", body.len()),
            Frame::Ping { value, .. } => format!("Ping({value})"),
            Frame::GoAway { code } => format!("GoAway({code})"),
        })
        .collect();
    // A stream that was absent is looked for in the backlog.
    let slot = slot.or_else(|| wire.core.accept_queue.front().copied());
    let entry = slot.map(|slot| wire.core.streams.get(slot).map(|entry| entry.state));
    let state = match entry {
        None => "absent".to_owned(),
        Some(None) => "gone".to_owned(),
        Some(Some(state)) => format!("{state:?}"),
    };
    let sent = if sent.is_empty() { String::new() } else { format!(" [{}]", sent.join(", ")) };
    format!("{state}{sent}{events}")
}

fn outcome(setup: Setup, input: &str) -> String {
    let (mut wire, id, slot) = setup.1();
    let mut note = String::new();
    match (input, slot) {
        ("SYN", _) => wire.feed(&[update(id, SYN, 0)]),
        ("ACK", _) => wire.feed(&[update(id, ACK, 0)]),
        ("FIN", _) => wire.feed(&[update(id, FIN, 0)]),
        ("RST", _) => wire.feed(&[update(id, RST, 9)]),
        ("Data", _) => wire.feed(&[data(id, NONE, "x")]),
        ("close", Some(slot)) if setup.0 != "SynReceived, not accepted" => {
            if let Err(error) = wire.core.finish(slot) {
                note = format!(" {error:?}");
            }
        }
        ("drop", Some(slot)) if setup.0 != "SynReceived, not accepted" => {
            wire.core.release(slot, Half::Both);
        }
        ("drop", Some(_)) => wire.core.handles_dropped(wire.now),
        _ => return "n/a".to_owned(),
    }
    describe(&mut wire, slot, &note)
}

// spec.md §4.7.4, with its footnotes. A row for each way into a state; what is sent in brackets.
#[test]
fn the_wire_shows_the_table() {
    let columns = ["SYN", "ACK", "FIN", "RST", "Data", "close", "drop"];
    let mut table = String::new();
    for setup in SETUPS {
        table += setup.0;
        for input in columns {
            table += &format!(" | {}", outcome(setup, input));
        }
        table += "\n";
    }
    let expected = "\
Absent, id 0 | ZeroStreamId | ZeroStreamId | ZeroStreamId | ZeroStreamId | ZeroStreamId | n/a | n/a
Absent, never opened, ours | WrongParity | absent | absent | absent | NeverOpened | n/a | n/a
Absent, never opened, theirs | SynReceived | absent | absent | absent | NeverOpened | n/a | n/a
Absent, finished, ours | WrongParity | absent | absent | absent | absent | n/a | n/a
Absent, finished, theirs | SynReceived | absent | absent | absent | absent | n/a | n/a
SynSent | WrongParity | Established | RemoteClosed | Reset | SynSent | LocalClosed [FIN] | gone [RST(4)]
SynReceived, not accepted | DuplicateStream | SynReceived | RemoteClosed | gone | SynReceived | n/a | gone [RST(3), GoAway(0)]
SynReceived, accepted | DuplicateStream | SynReceived | RemoteClosed | Reset | SynReceived | LocalClosed [ACK|FIN] | gone [RST(4)]
Established, ours | WrongParity | Established | RemoteClosed | Reset | Established | LocalClosed [FIN] | gone [RST(4)]
Established, theirs | DuplicateStream | Established | RemoteClosed | Reset | Established | LocalClosed [FIN] | gone [RST(4)]
LocalClosed, ours | WrongParity | LocalClosed | Closed | Reset | LocalClosed | LocalClosed | LocalClosed
LocalClosed, theirs | DuplicateStream | LocalClosed | Closed | Reset | LocalClosed | LocalClosed | LocalClosed
RemoteClosed, ours | WrongParity | RemoteClosed | RemoteClosed | Reset | Reset [RST(8)] | Closed [FIN] | gone [RST(4)]
RemoteClosed, theirs | DuplicateStream | RemoteClosed | RemoteClosed | Reset | Reset [RST(8)] | Closed [FIN] | gone [RST(4)]
Closed, theirs | Closed | Closed | Closed | Closed | Closed | Closed | gone
Closed, FIN not staged | DuplicateStream | Closed [FIN] | Closed [FIN] | Reset | Reset [RST(8)] | Closed [FIN] | gone [FIN]
Reset by the peer | Reset | Reset | Reset | Reset | Reset | Reset Reset(ResetCode(256)) | gone
Reset here | Reset | Reset | Reset | Reset | Reset | Reset LocalReset(ResetCode(256)) | gone
Reset here, RST not staged | DuplicateStream | Reset [RST(256)] | Reset [RST(256)] | Reset | Reset [RST(256)] | Reset [RST(256)] LocalReset(ResetCode(256)) | gone [RST(256)]
";
    for (line, wanted) in table.lines().zip(expected.lines()) {
        assert_eq!(line, wanted);
    }
    assert_eq!(table, expected);
}

// spec.md §4.7.4: never sent, and closed before SYN was staged.
#[test]
fn init_knows_only_close_and_drop() {
    let mut wire = Wire::client();
    let slot = wire.core.open().unwrap();
    assert_eq!(wire.core.streams[slot].state, State::Init);
    wire.core.finish(slot).unwrap();
    assert_eq!(describe(&mut wire, Some(slot), ""), "LocalClosed [SYN, FIN]");
    let slot = wire.core.open().unwrap();
    wire.core.release(slot, Half::Both);
    assert_eq!(describe(&mut wire, Some(slot), ""), "gone");
}

// spec.md §4.7.3: the id of a closed stream is free though its handle lives.
#[test]
fn a_held_stream_does_not_keep_its_id() {
    let (mut wire, _, slot) = finished_here(finished_there(inbound()));
    wire.feed(&[data(1, SYN, "new")]);
    let again = wire.accept();
    assert_ne!(Some(again), slot);
    assert_eq!(wire.drain(again).0, b"new");
    wire.core.release(slot.unwrap(), Half::Both);
    wire.feed(&[data(1, NONE, "er")]);
    assert_eq!(wire.drain(again).0, b"er");
}

// spec.md §2.9: SYN, ACK, data, FIN, RST.
#[test]
fn flags_take_effect_in_order() {
    let mut wire = Wire::client();
    let slot = wire.open();
    wire.feed(&[update(1, ACK.with(FIN), 10)]);
    assert_eq!(wire.core.streams[slot].state, State::RemoteClosed);
    assert_eq!(wire.core.streams[slot].send.available(), 262_154);
    assert_eq!(wire.core.stats().ack_backlog, 0);

    let mut wire = Wire::client();
    let slot = wire.open();
    wire.feed(&[data(1, ACK.with(FIN), "last")]);
    assert_eq!(wire.core.streams[slot].state, State::RemoteClosed);
    assert_eq!(wire.drain(slot), (b"last".to_vec(), super::wire::Tail::Eof));

    let mut wire = Wire::client();
    let slot = wire.open();
    wire.feed(&[update(1, ACK.with(FIN).with(RST), 7)]);
    assert_eq!(wire.core.streams[slot].state, State::Reset);
    wire.expect(&[]);
    wire.expect_alive();
}

// spec.md §2.2, §2.3, §2.4, §4.1.4, §4.1.5, §8.3: each ends the session, and the peer is told.
#[test]
fn each_violation_has_its_name_and_a_goaway() {
    use super::wire::hex;
    let cases = [
        (hex("01 01 0000 00000001 00000000"), Violation::UnsupportedVersion(1)),
        (hex("00 04 0000 00000001 00000000"), Violation::UnknownKind(4)),
        (hex("FF FF 0000 00000001 00000000"), Violation::UnsupportedVersion(255)),
        (hex("00 00 0001 00000000 00000000"), Violation::ZeroStreamId),
        (hex("00 01 0000 00000000 00000000"), Violation::ZeroStreamId),
        (hex("00 01 0001 00000002 00000000"), Violation::WrongParity),
        (hex("00 01 0001 00000001 00000000"), Violation::DuplicateStream),
        (hex("00 01 0000 00000001 FFFFFFFF"), Violation::WindowOverflow),
        (hex("00 00 0000 00000001 00040001"), Violation::WindowExceeded),
        (hex("00 00 0000 00000005 00000001"), Violation::NeverOpened),
        (hex("00 00 0000 00000002 00000001"), Violation::NeverOpened),
    ];
    for (bytes, rule) in cases {
        let mut wire = Wire::server();
        wire.inbound(1);
        let mut input = bytes.clone();
        // spec.md §8.3.4: nothing after it is interpreted.
        input.extend(super::wire::encode(&[data(3, SYN, "ignored")]));
        wire.feed_bytes(input);
        assert_eq!(wire.core.accept(), None, "{rule:?}");
        if let Some(crate::SessionError::Violation { frame, .. }) = wire.error() {
            let readable = bytes[0] == 0 && bytes[1] < 4;
            assert_eq!(frame.map(|frame| frame.encode().to_vec()), readable.then_some(bytes));
        }
        wire.expect_violation(rule);
    }
}
