//! Hand-made inputs, by name: what broke other implementations, and what broke this one.
//! `tests/fuzz_corpus.rs` keeps the files in `corpus/` equal to these.

mod exchanges;

use trunkline::{Flood, Violation};

use super::{
    hostile::LENGTHS,
    naive::{ACK, DATA, FIN, Fields, GO_AWAY, PING, RST, SYN, WINDOW, WINDOW_SIZE},
};

/// One file of the corpus.
#[derive(Debug)]
pub struct Seed {
    /// The fuzz target.
    pub target: &'static str,
    /// The name of the file.
    pub name: &'static str,
    /// Its contents.
    pub bytes: Vec<u8>,
    /// The rule whose violation ends the session; `None` where it lives.
    pub violates: Option<Violation>,
}

/// Every seed of every target.
pub fn all() -> Vec<Seed> {
    let groups = [
        wires(),
        floods(),
        hostile_windows(),
        hostile_frames(),
        hostile_ends(),
        operations(),
        calls(),
        exchanges::theirs(),
        exchanges::ours(),
        sp(),
        peers(),
    ];
    groups.into_iter().flatten().collect()
}

/// The worked examples of `spec.md §14.2.9`, `§15.2.4`, `§15.3.5`, behind the bytes that choose.
fn calls() -> Vec<Seed> {
    let seed =
        |target, name, bytes: &[u8]| Seed { target, name, bytes: bytes.to_vec(), violates: None };
    vec![
        seed(
            "messages",
            "examples",
            b"\x04\x01\x02\x03\x09\x01\x02\0\0\0\0\0\x06\0\0\x05\xdchi\
              \x03\x01\0\0\0\0\0\x02ab\x03\0\0\0\0\0\0\x01c\x02\0\0\0\0\0\0\0",
        ),
        seed("messages", "promise", b"\x04\x01\0\x01\0\0\0\xff\xff\xff\xff\x01"),
        seed("messages", "empty-with-more", b"\x04\x01\0\x01\x01\0\0\0\0\0\0"),
        seed("heads", "request", b"\0\0\0\x08Echo.Say\0\0\0\x01\x01k\0\x01v"),
        seed("heads", "response", b"\x01\0\x09\0\x02no\0\0\0\0\0\0\0\0\0"),
        seed("heads", "promise", b"\x01\0\x09\0\0\xff\xff\xff\xff"),
    ]
}

/// The worked examples of `spec.md §16.2`, `§16.4`, behind the bytes that choose, and what lies.
fn peers() -> Vec<Seed> {
    let seed = |name, bytes: &[&[u8]]| Seed {
        target: "peers",
        name,
        bytes: bytes.concat(),
        violates: None,
    };
    let hello = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x03annt";
    let messages = b"\x01\0\0\0\0\0\0\x02hi\x01\x01\0\0\0\0\0\x02\0\0\0\0\0\0\0\x07hi";
    let acks = b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\
                 \x02\x01\0\0\0\0\0\x02\0\0\0\0\0\0\0\x07no";
    vec![
        seed("hello", &[&[2, 0], hello]),
        seed("welcome", &[&[2, 0, 0], hello]),
        seed("refused", &[&[2, 0], b"\x02no"]),
        seed("refused-in-no-words", &[&[2, 0], b"\x4d\xff\xfe"]),
        seed("refused-at-length", &[&[2, 0, 1], &[b'x'; 4_097]]),
        seed("id-of-no-bytes", &[&[2, 0], &hello[..16], &[0]]),
        seed("id-longer-than-all", &[&[2, 0], &hello[..16], b"\xffann"]),
        seed("messages-and-acks", &[&[2, 3, 0, 7, 2], messages, acks]),
        seed("ack-with-words-and-no-flag", &[&[2, 0], b"\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07x"]),
        seed("message-of-a-byte-too-many", &[&[0, 0], messages]),
        seed("message-of-a-gibibyte-then-little", &[&[3, 0], b"\x01\0\0\0\x40\0\0\0hi"]),
        seed("message-of-more-than-a-gibibyte", &[&[3, 0], b"\x01\0\0\0\x40\0\0\x01"]),
        seed("ack-of-many-words", &[&[2, 0], b"\x02\x01\0\0\0\0\x10\x01"]),
        seed("unknown-kind", &[&[2, 0], messages, b"\x03\0\0\0\0\0\0\0"]),
        seed("unknown-flag", &[&[2, 0], messages, b"\x01\x80\0\0\0\0\0\0"]),
        seed("reserved-byte", &[&[2, 0], messages, b"\x01\0\0\x01\0\0\0\0"]),
    ]
}

/// SP: the worked examples of `spec.md §13`, and lengths that lie.
fn sp() -> Vec<Seed> {
    let seed =
        |name, bytes: &[&[u8]]| Seed { target: "sp", name, bytes: bytes.concat(), violates: None };
    let request = b"\0\0\0\0\0\0\0\x09\xcf\x35\xb9\xd4hello";
    let through_a_device = b"\0\0\0\0\0\0\0\x0c\0\0\0\x07\x80\0\0\x2aping";
    vec![
        seed("request", &[&[0, 8, 0], request]),
        seed("request-in-pieces", &[&[0, 8, 2, 3, 0], request, request]),
        seed("request-on-a-local-socket", &[&[1, 8, 0, 1], request, &[1], request]),
        seed("through-a-device", &[&[0, 8, 0], through_a_device, through_a_device]),
        seed("too-many-hops", &[&[0, 1, 0], through_a_device]),
        seed("handshake", &[&[0, 8, 0], b"\0SP\0\0\x30\0\0"]),
        seed("length-ffffffffffffffff", &[&[0, 8, 0], request, &[0xff; 8]]),
        seed("length-of-an-exabyte-then-little", &[&[0, 8, 0, 0x10], &[0; 7], request]),
        seed("unknown-kind", &[&[1, 8, 0, 2], request]),
    ]
}

/// Bytes on the wire, for the targets that take them as they are.
fn wires() -> Vec<Seed> {
    // The worked examples of `spec.md §2.12`.
    let examples: [(u8, u16, u32, u32, &[u8]); 12] = [
        (WINDOW, SYN, 1, 0, b""),
        (DATA, SYN, 1, 2, b"hi"),
        (WINDOW, ACK, 1, 0, b""),
        (WINDOW, ACK, 1, 0x000c_0000, b""),
        (DATA, ACK, 1, 2, b"yo"),
        (WINDOW, 0, 1, 0x0002_0000, b""),
        (DATA, FIN, 1, 0, b""),
        (WINDOW, RST, 3, 4, b""),
        (PING, SYN, 0, 42, b""),
        (PING, ACK, 0, 42, b""),
        (GO_AWAY, 0, 0, 0, b""),
        (GO_AWAY, 0, 0, 1, b""),
    ];
    let mut frames = Vec::new();
    let mut headers = Vec::new();
    for (kind, flags, stream, length, body) in examples {
        let header = Fields { kind, flags, stream, length }.wire();
        headers.extend(&header);
        frames.extend(&header);
        frames.extend(body);
    }
    headers.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    headers.extend([0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    headers.extend([0, 1, 0, 0xf2, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    let with = |prefix: &[u8], wire: &[u8]| [prefix, wire].concat();
    let huge = Fields { kind: DATA, flags: SYN, stream: 1, length: u32::MAX }.wire();
    let unknown = with(&frames[..26], &[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    vec![
        seed("header", "worked-examples", headers),
        seed("decoder", "worked-examples", with(&[0], &frames)),
        seed("decoder", "worked-examples-in-pieces", with(&[4, 0, 10, 2, 25], &frames)),
        seed("decoder", "length-ffffffff-then-silence", with(&[1, 5], &huge)),
        seed("decoder", "unknown-kind-after-frames", with(&[2, 11, 0], &unknown)),
        seed("differential", "worked-examples-in-pieces", with(&[7, 6], &frames)),
        // Open with data, more data, credit, a ping, the end; a second one reset.
        seed(
            "differential",
            "open-write-finish-reset",
            [0, 0, 5]
                .into_iter()
                .chain([0, 1, 0, 2, 3, 0, 0, 4, 10, 0, 0, 3, 12, 0, 0, 0, 9, 3, 0, 0, 5])
                .chain([0, 0, 0, 0, 3, 1, 0, 7, 13, 3, 1, 13, 0, 0, 1])
                .collect(),
        ),
    ]
}

/// More work than any honest peer causes (`spec.md §9.2`).
fn floods() -> Vec<Seed> {
    let flood = |flood| Some(Violation::Flood(flood));
    let empty_data = Fields { kind: DATA, flags: 0, stream: 2, length: 0 };
    let no_credit = Fields { kind: WINDOW, ..empty_data };
    let ping = Fields { kind: PING, flags: SYN, stream: 0, length: 1 };
    let syn = Fields { kind: WINDOW, flags: SYN, stream: 2, length: 0 };
    vec![
        Hostile::client().many(ping, 10_000, 2).seed("pings-not-reading", flood(Flood::Pings)),
        Hostile::client().many(ping, 4_000, 0).seed("equal-pings-share-an-answer", None),
        Hostile::client()
            .each(6, |play| play.many(ping, 1_000, 2).take())
            .seed("pings-reading-the-answers", None),
        Hostile::client()
            .frame(syn)
            .many(empty_data, 5_000, 0)
            .seed("empty-data", flood(Flood::EmptyFrames)),
        Hostile::client()
            .frame(syn)
            .many(no_credit, 5_000, 0)
            .seed("credit-of-zero", flood(Flood::EmptyFrames)),
        Hostile::client()
            .many(Fields { flags: FIN, stream: 4, ..no_credit }, 5_000, 2)
            .seed("fin-for-streams-never-opened", flood(Flood::EmptyFrames)),
        Hostile::client()
            .many(Fields { flags: ACK, ..ping }, 5_000, 2)
            .seed("answers-nobody-asked-for", flood(Flood::EmptyFrames)),
        Hostile::client()
            .many(Fields { flags: SYN | RST, ..syn }, 2_000, 2)
            .seed("rapid-reset", flood(Flood::EarlyResets)),
        Hostile::client()
            .each(10, |play| play.frame(syn).frame(Fields { flags: RST, ..syn }))
            .seed("open-and-reset-a-few", None),
        Hostile::strict()
            .each(10, |play| play.frame(syn).frame(Fields { flags: RST, ..syn }))
            .seed("open-and-reset-too-many", flood(Flood::EarlyResets)),
        Hostile::client()
            .many(syn, 10_000, 2)
            .seed("syn-flood-not-reading", flood(Flood::Refusals)),
        Hostile::client()
            .each(10, |play| play.many(syn, 4, 2).accept().take())
            .seed("syn-flood-reuses-a-live-id", Some(Violation::DuplicateStream)),
        Hostile::client()
            .many(Fields { stream: 2, ..syn }, 900, 2)
            .take()
            .accept()
            .seed("syn-flood-reading-the-refusals", None),
        Hostile::large()
            .many(Fields { stream: 0x1_0002, ..syn }, 250, 0x1_0000)
            .accept()
            .take()
            .seed("ids-at-a-stride", None),
    ]
}

/// Credit and bodies beyond what is allowed, or just within it.
fn hostile_windows() -> Vec<Seed> {
    let syn = Fields { kind: WINDOW, flags: SYN, stream: 2, length: 0 };
    let data = Fields { kind: DATA, flags: 0, stream: 2, length: 1 };
    let credit = Fields { kind: WINDOW, flags: 0, stream: 2, length: u32::MAX };
    let full = Fields { length: WINDOW_SIZE, ..data };
    vec![
        Hostile::client().frame(syn).frame(credit).seed("window-overflow", OVERFLOW),
        Hostile::client()
            .frame(Fields { flags: SYN, ..credit })
            .seed("window-overflow-on-syn", OVERFLOW),
        Hostile::client()
            .open()
            .take()
            .frame(Fields { flags: ACK, stream: 1, ..credit })
            .seed("window-overflow-on-ack", OVERFLOW),
        Hostile::client()
            .frame(Fields { flags: SYN, length: u32::MAX - WINDOW_SIZE, ..credit })
            .seed("window-of-u32-max", None),
        Hostile::client()
            .frame(Fields { flags: SYN, length: WINDOW_SIZE + 1, ..data })
            .seed("syn-with-a-body-over-the-window", EXCEEDED),
        Hostile::client()
            .frame(Fields { flags: SYN, ..full })
            .frame(data)
            .seed("a-byte-over-the-window", EXCEEDED),
        // A refused stream is judged like any other.
        Hostile::client()
            .many(syn, 4, 2)
            .frame(Fields { flags: SYN, stream: 10, ..credit })
            .seed("window-overflow-on-a-refused-syn", OVERFLOW),
        Hostile::client()
            .many(syn, 4, 2)
            .frame(Fields { flags: SYN, stream: 10, length: WINDOW_SIZE + 1, ..data })
            .seed("refused-syn-with-a-body-over-the-window", EXCEEDED),
        Hostile::client()
            .frame(syn)
            .raw(&Fields { length: u32::MAX, ..data }.wire())
            .seed("length-ffffffff-then-silence", EXCEEDED),
        Hostile::client()
            .frame(syn)
            .raw(&full.wire())
            .seed("a-whole-window-announced-then-silence", None),
        Hostile::large()
            .frame(syn)
            .accept()
            .each(32, |play| play.many(data, 8_192, 0))
            .read()
            .seed("a-window-of-one-byte-frames", None),
        Hostile::client()
            .frame(Fields { flags: SYN, ..full })
            .frame(Fields { stream: 4, ..syn })
            .accept()
            .accept()
            .frame(Fields { stream: 4, ..data })
            .read()
            .take()
            .seed("a-stream-nobody-reads", None),
        Hostile::client()
            .each(3, |play| play.many(Fields { flags: SYN | FIN, ..full }, 3, 2))
            .seed("unread-data-of-many-streams", Some(Violation::DuplicateStream)),
        Hostile::client()
            .many(Fields { flags: SYN, ..full }, 4, 2)
            .accept()
            .read()
            .take()
            .seed("more-unread-than-the-budget", None),
    ]
}

/// Frames that make no sense in their place.
fn hostile_frames() -> Vec<Seed> {
    let syn = Fields { kind: WINDOW, flags: SYN, stream: 2, length: 0 };
    let data = Fields { kind: DATA, flags: 0, stream: 2, length: 1 };
    let full = Fields { length: WINDOW_SIZE, ..data };
    vec![
        Hostile::client()
            .raw(&[0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
            .seed("unknown-kind", Some(Violation::UnknownKind(4))),
        Hostile::client()
            .raw(&[9; 12])
            .seed("unknown-version", Some(Violation::UnsupportedVersion(9))),
        Hostile::client()
            .open()
            .take()
            .raw(&Fields { flags: 0xf2, stream: 1, length: 0, ..syn }.wire())
            .seed("unknown-flags-beside-ack", None),
        Hostile::client()
            .frame(Fields { flags: SYN | FIN, ..data })
            .accept()
            .frame(data)
            .take()
            .seed("data-after-fin", None),
        Hostile::client()
            .frame(syn)
            .frame(Fields { flags: ACK | FIN | RST, length: 100, ..data })
            .seed("every-flag-with-a-body", None),
        Hostile::client()
            .piece(1)
            .frame(Fields { flags: SYN, length: 100, ..data })
            .accept()
            .frame(Fields { flags: FIN, ..data })
            .read()
            .take()
            .seed("dribbled-byte-by-byte", None),
        Hostile::client()
            .frame(Fields { stream: 0, ..data })
            .seed("stream-zero", Some(Violation::ZeroStreamId)),
        Hostile::client()
            .frame(Fields { stream: 3, ..syn })
            .seed("wrong-parity", Some(Violation::WrongParity)),
        Hostile::client()
            .frame(syn)
            .frame(syn)
            .seed("duplicate-stream", Some(Violation::DuplicateStream)),
        Hostile::client().frame(data).seed("never-opened", Some(Violation::NeverOpened)),
        Hostile::client()
            .frame(syn)
            .accept()
            .drop()
            .take()
            .frame(full)
            .frame(data)
            .seed("late-data-beyond-the-allowance", Some(Violation::LateData)),
    ]
}

/// Resets, refusals and ends at awkward moments.
#[allow(clippy::too_many_lines)] // A list.
fn hostile_ends() -> Vec<Seed> {
    let syn = Fields { kind: WINDOW, flags: SYN, stream: 2, length: 0 };
    let rst = Fields { flags: RST, ..syn };
    let data = Fields { kind: DATA, flags: 0, stream: 2, length: 100 };
    let go_away = Fields { kind: GO_AWAY, flags: 0, stream: 0, length: 0 };
    vec![
        // The refusal of stream 10 is owed while its RST arrives.
        Hostile::client()
            .many(syn, 5, 2)
            .frame(Fields { stream: 10, ..rst })
            .take()
            .seed("reset-of-a-stream-about-to-be-refused", None),
        Hostile::client()
            .many(syn, 4, 2)
            .frame(Fields { stream: 10, flags: SYN | RST, ..syn })
            .take()
            .seed("refused-syn-with-rst", None),
        Hostile::client()
            .many(syn, 4, 2)
            .each(4, Hostile::accept)
            .many(Fields { stream: 10, ..syn }, 4, 2)
            .each(4, Hostile::accept)
            .take()
            .seed("more-streams-than-the-limit", None),
        Hostile::client()
            .frame(syn)
            .accept()
            .drop()
            .frame(rst)
            .take()
            .seed("reset-while-ours-is-owed", None),
        Hostile::client()
            .frame(syn)
            .accept()
            .drop()
            .frame(rst)
            .frame(syn)
            .accept()
            .take()
            .seed("id-used-again-after-a-reset", None),
        Hostile::client()
            .open()
            .write()
            .drop()
            .take()
            .frame(data)
            .seed("answer-of-the-wrong-parity-without-syn", Some(Violation::NeverOpened)),
        Hostile::client()
            .open()
            .write()
            .take()
            .frame(Fields { stream: 1, ..data })
            .frame(Fields { stream: 1, flags: FIN, length: 0, ..data })
            .read()
            .finish()
            .take()
            .seed("an-honest-exchange", None),
        Hostile::client().open().frame(go_away).take().open().seed("go-away-while-opening", None),
        Hostile::client().frame(syn).raw(&data.wire()).seed("end-within-a-frame", None),
        Hostile::client().raw(&[0, 2, 0]).seed("end-within-a-header", None),
        Hostile::client()
            .frame(Fields { kind: PING, flags: SYN, stream: 0, length: 42 })
            .take()
            .seed("ping-as-the-first-frame", None),
        Hostile::client()
            .frame(Fields { flags: SYN, ..data })
            .accept()
            .finish()
            .drop()
            .take()
            .advance(8)
            .take()
            .seed("close-timeout", None),
        Hostile::client().open().take().advance(7).take().seed("open-timeout", None),
    ]
}

/// Two honest ends.
fn operations() -> Vec<Seed> {
    let write = |size| [4, 0, size, 0];
    let both = |op: &[u8]| {
        let mut other = op.to_vec();
        other[0] |= 128;
        [op, &other].concat()
    };
    let echo =
        [&[0][..], &write(2), &[13, 0, 146, 0, 130], &[132, 0, 2, 0, 23, 0, 151, 0]].concat();
    let saturated = [both(&[0]), both(&write(6)), both(&[13, 0]), both(&[18, 0]), both(&[2])];
    let saturated = [saturated.concat(), both(&write(6)), both(&[13, 0])].concat();
    let half = [&echo[..9], &[4, 0, 4, 0, 23, 0, 13, 0, 146, 0, 137, 0, 0, 0]].concat();
    let torn = [&[0][..], &write(4), &[24, 0, 13, 0, 146, 0, 130]].concat();
    let refused = [both(&[0]), both(&write(2)), both(&[13, 0]), both(&[18, 0])].concat();
    let away = [&[0][..], &write(3), &[13, 0, 128, 159, 3, 141, 0, 18, 0, 0]].concat();
    let close = [&[0][..], &write(6), &[13, 0, 146, 0, 31, 0, 130]].concat();
    let drain = [&[0][..], &write(6), &[13, 0, 146, 0, 130, 31, 0]].concat();
    let discarded = [&[0][..], &write(6), &[13, 0, 146, 0, 130, 151, 0, 152, 0]].concat();
    let mut refusing = [0; 20];
    (refusing[0], refusing[5], refusing[14]) = (1, 1, 1);
    let capacity = |choice| {
        let mut config = [0; 20];
        (config[0], config[1]) = (1, choice);
        config
    };
    let play = |config: [u8; 20], steps: &[u8]| [&config[..], steps].concat();
    vec![
        seed("operations", "echo", play(capacity(0), &echo)),
        seed("operations", "echo-without-a-timer", play([0; 20], &echo)),
        seed("operations", "saturated-over-a-pipe-of-one-byte", play(capacity(1), &saturated)),
        seed("operations", "saturated-over-a-small-pipe", play(capacity(4), &saturated)),
        seed("operations", "half-closed", play(capacity(2), &half)),
        seed("operations", "dropped-without-close", play(capacity(0), &torn)),
        seed(
            "operations",
            "closed-and-dropped-while-the-peer-writes",
            play(capacity(0), &discarded),
        ),
        seed("operations", "refused", play(refusing, &refused)),
        seed("operations", "go-away-while-opening", play(capacity(0), &away)),
        seed("operations", "close-under-load", play(capacity(3), &close)),
        seed("operations", "close-with-a-live-stream", play(capacity(3), &drain)),
    ]
}

const OVERFLOW: Option<Violation> = Some(Violation::WindowOverflow);
const EXCEEDED: Option<Violation> = Some(Violation::WindowExceeded);

const fn seed(target: &'static str, name: &'static str, bytes: Vec<u8>) -> Seed {
    Seed { target, name, bytes, violates: None }
}

/// Writes down what `hostile` plays.
struct Hostile(Vec<u8>);

impl Hostile {
    /// We are the client, so that the peer opens even ids; small limits.
    fn client() -> Self {
        Self(vec![1, 0])
    }

    fn large() -> Self {
        Self(vec![3, 0])
    }

    /// Few empty frames, few early resets.
    fn strict() -> Self {
        Self(vec![33, 0])
    }

    fn and(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn fields(self, frame: Fields) -> Self {
        let this = self.and(&[frame.kind, frame.flags as u8]);
        let this = match frame.stream {
            small @ 0..=31 => this.and(&[small as u8]),
            large => this.and(&[255]).and(&large.to_be_bytes()),
        };
        match LENGTHS.iter().position(|length| *length == frame.length) {
            Some(index) => this.and(&[index as u8]),
            None => this.and(&[255]).and(&frame.length.to_be_bytes()),
        }
    }

    fn frame(self, frame: Fields) -> Self {
        self.and(&[0]).fields(frame)
    }

    fn many(self, frame: Fields, count: u16, stride: u32) -> Self {
        let stride = match stride {
            0 => 0,
            2 => 1,
            _ => 4,
        };
        self.and(&[6]).fields(frame).and(&count.to_be_bytes()).and(&[stride])
    }

    fn raw(self, bytes: &[u8]) -> Self {
        self.and(&[7, bytes.len() as u8]).and(bytes)
    }

    fn piece(self, size: u16) -> Self {
        self.and(&[8]).and(&size.to_be_bytes())
    }

    fn take(self) -> Self {
        self.and(&[11, 0])
    }

    fn advance(self, choice: u8) -> Self {
        self.and(&[13, choice])
    }

    fn open(self) -> Self {
        self.and(&[15])
    }

    fn accept(self) -> Self {
        self.and(&[16])
    }

    /// What follows concerns the first handle.
    fn read(self) -> Self {
        self.and(&[18, 1, 4, 0])
    }

    fn write(self) -> Self {
        self.and(&[20, 0, 3, 0])
    }

    fn finish(self) -> Self {
        self.and(&[22, 0, 0])
    }

    fn drop(self) -> Self {
        self.and(&[22, 6, 0])
    }

    fn each(self, count: usize, step: impl Fn(Self) -> Self) -> Self {
        (0..count).fold(self, |this, _| step(this))
    }

    fn seed(self, name: &'static str, violates: Option<Violation>) -> Seed {
        Seed { target: "hostile", name, bytes: self.0, violates }
    }
}
