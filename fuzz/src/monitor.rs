//! Watches what one end sends, knowing what it received, and panics where an honest end would
//! not have sent that, whatever the other end does.

use std::collections::{HashMap, hash_map::Entry};

use super::naive::{
    ACK, DATA, FIN, Fields, GO_AWAY, PING, RST, SYN, Splitter, WINDOW, WINDOW_SIZE,
};

#[derive(Debug)]
pub(crate) struct Monitor {
    /// Odd ids are the client's.
    parity: u32,
    max_frame: u32,
    max_window: u64,
    splitter: Splitter,
    streams: HashMap<u32, Side>,
    highest: u32,
    questions: HashMap<u32, u64>,
    asked: Vec<u32>,
    over: bool,
    /// Values of the answers to pings.
    pub(crate) pongs: Vec<u32>,
    pub(crate) data: u64,
    pub(crate) control: u64,
    /// Codes of GoAway.
    pub(crate) go_aways: Vec<u32>,
}

#[derive(Debug, Default)]
struct Side {
    /// Whether its SYN was sent; the other end may guess an id before.
    opened: bool,
    /// The id was used or guessed before: frames that came then look like frames of this use.
    reused: bool,
    acked: bool,
    fin_sent: bool,
    rst_sent: bool,
    fin_received: bool,
    rst_received: bool,
    sent: u64,
    may_send: u64,
    received: u64,
    granted: u64,
}

impl Side {
    fn fresh() -> Self {
        let window = u64::from(WINDOW_SIZE);
        Self { opened: true, may_send: window, granted: window, ..Self::default() }
    }

    fn guessed() -> Self {
        Self { opened: false, reused: true, ..Self::fresh() }
    }
}

impl Monitor {
    pub(crate) fn new(client: bool, max_frame: u32, max_window: u32) -> Self {
        Self {
            parity: u32::from(client),
            max_frame,
            max_window: max_window.into(),
            splitter: Splitter::default(),
            streams: HashMap::new(),
            highest: 0,
            questions: HashMap::new(),
            asked: Vec::new(),
            over: false,
            pongs: Vec::new(),
            data: 0,
            control: 0,
            go_aways: Vec::new(),
        }
    }

    /// The watched end is about to be given this frame.
    pub(crate) fn received(&mut self, frame: Fields) {
        match frame.kind {
            DATA | WINDOW => {}
            PING if frame.has(SYN) => {
                *self.questions.entry(frame.length).or_default() += 1;
                return;
            }
            PING if frame.has(ACK) => {
                self.asked.retain(|asked| *asked != frame.length);
                return;
            }
            _ => return,
        }
        if frame.has(SYN) && frame.stream % 2 != self.parity {
            let reused = self.streams.contains_key(&frame.stream);
            self.streams.insert(frame.stream, Side { reused, ..Side::fresh() });
        }
        let ours = frame.stream % 2 == self.parity;
        let side = match self.streams.entry(frame.stream) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) if ours => unknown.insert(Side::guessed()),
            Entry::Vacant(_) => return,
        };
        match frame.kind {
            DATA => side.received += u64::from(frame.length),
            _ if frame.has(RST) => {}
            _ => side.may_send += u64::from(frame.length),
        }
        side.fin_received |= frame.has(FIN);
        side.rst_received |= frame.has(RST);
    }

    /// The watched end sent these bytes.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.push(bytes, |header| match header {
            Ok(frame) => self.frame(frame),
            Err(malformed) => panic!("sent a malformed header: {malformed:?}"),
        });
        self.splitter = splitter;
    }

    /// Whether what was sent ends between two frames.
    pub(crate) fn at_boundary(&self) -> bool {
        self.splitter.missing() == Some(0)
    }

    fn frame(&mut self, frame: Fields) {
        assert!(!self.over, "sent {frame:?} after the GoAway that ends the session");
        assert_eq!(frame.flags & !(SYN | ACK | FIN | RST), 0, "{frame:?} has unknown flags");
        if frame.kind == DATA {
            self.data += u64::from(frame.length);
        } else {
            self.control += 1;
        }
        match frame.kind {
            PING => self.ping(frame),
            GO_AWAY => {
                assert_eq!((frame.flags, frame.stream), (0, 0), "{frame:?}");
                self.go_aways.push(frame.length);
                self.over = frame.length != 0;
            }
            _ => self.stream_frame(frame),
        }
    }

    /// `spec.md §3.3`: answers only to questions, and at most 32 questions at a time.
    fn ping(&mut self, frame: Fields) {
        assert_eq!(frame.stream, 0, "{frame:?}");
        match frame.flags {
            SYN => {
                assert!(!self.asked.contains(&frame.length), "{frame:?} asked twice");
                self.asked.push(frame.length);
            }
            ACK => {
                let asked = self.questions.get_mut(&frame.length).filter(|count| **count > 0);
                *asked.unwrap_or_else(|| panic!("{frame:?} answers no question")) -= 1;
                self.pongs.push(frame.length);
            }
            _ => panic!("{frame:?} is neither question nor answer"),
        }
    }

    fn stream_frame(&mut self, frame: Fields) {
        assert_ne!(frame.stream, 0, "{frame:?}");
        if frame.has(SYN) {
            assert_eq!(frame.stream % 2, self.parity, "{frame:?} opens a stream of the peer");
            assert!(frame.stream > self.highest, "{frame:?} opens out of order");
            self.highest = frame.stream;
            self.streams.entry(frame.stream).or_insert_with(Side::fresh).opened = true;
        }
        let ours = frame.stream % 2 == self.parity;
        let max_window = self.max_window;
        let side = self.streams.get_mut(&frame.stream).filter(|side| side.opened);
        let Some(side) = side else { panic!("{frame:?} on a stream that nobody opened") };
        if side.reused {
            return;
        }
        assert!(!side.rst_sent, "{frame:?} after RST");
        if frame.has(ACK) {
            assert!(!ours, "{frame:?} acknowledges a stream of its own");
            assert!(!side.acked, "{frame:?} acknowledges twice");
            assert!(!side.fin_sent, "{frame:?} acknowledges after FIN");
            side.acked = true;
        }
        if frame.kind == DATA {
            assert!(frame.length > 0 && frame.length <= self.max_frame, "{frame:?}");
            assert!(!frame.has(FIN | RST), "{frame:?} ends a stream with a body");
            assert!(!side.fin_sent, "{frame:?} after FIN");
            side.sent += u64::from(frame.length);
            assert!(side.sent <= side.may_send, "{frame:?} exceeds the window");
        } else if frame.has(RST) {
            assert!(!side.rst_received, "{frame:?} answers RST");
            assert_eq!(frame.flags, RST, "{frame:?}");
            side.rst_sent = true;
        } else {
            assert!(frame.length > 0 || frame.flags != 0, "{frame:?} carries nothing");
            side.granted += u64::from(frame.length);
            assert!(side.granted <= side.received + max_window, "{frame:?} grants too much");
            let wanted = !side.fin_received && !side.rst_received;
            assert!(wanted || frame.length == 0, "{frame:?} credits a finished stream");
        }
        if frame.has(FIN) {
            assert!(!side.fin_sent, "{frame:?} is a second FIN");
            side.fin_sent = true;
        }
    }
}
