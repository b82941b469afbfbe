//! What a core has to say to the frames it was sent.

use trunkline::{Flood, Role, SessionError, Violation};

use super::super::naive::{DATA, Fields, GO_AWAY, Malformed, PING, RST, SYN, WINDOW, WINDOW_SIZE};

pub(super) struct Judge {
    /// Of the core that is judged.
    role: Role,
    /// Headers that it was sent and not yet judged by.
    headers: Vec<Result<Fields, Malformed>>,
}

impl Judge {
    pub(super) const fn new(role: Role) -> Self {
        Self { role, headers: Vec::new() }
    }

    /// The core is about to be given this.
    pub(super) fn hear(&mut self, header: Result<Fields, Malformed>) {
        self.headers.push(header);
    }

    /// Whether the core ended the session where it had to, and only for a reason.
    pub(super) fn judge(&mut self, ended: Option<Result<(), SessionError>>) {
        let headers = std::mem::take(&mut self.headers);
        let must_end = headers.iter().any(|header| self.ends_session(*header));
        match ended {
            None => assert!(!must_end, "not ended by {headers:?}"),
            Some(Err(SessionError::Violation { rule, frame })) if !headers.is_empty() => {
                let named = frame.map(|header| Fields {
                    kind: header.kind as u8,
                    flags: header.flags.0,
                    stream: header.stream.0,
                    length: header.length,
                });
                let there = match (named, rule) {
                    (Some(named), _) => headers.contains(&Ok(named)),
                    (None, Violation::UnsupportedVersion(version)) => {
                        headers.contains(&Err(Malformed::Version(version)))
                    }
                    (None, Violation::UnknownKind(kind)) => {
                        headers.contains(&Err(Malformed::Kind(kind)))
                    }
                    (None, _) => false,
                };
                assert!(there, "{rule:?} by {frame:?}, but it got {headers:?}");
                if let Some(frame) = named {
                    self.judge_rule(rule, frame);
                }
            }
            Some(_) => {}
        }
        self.headers = headers;
        self.headers.clear();
    }

    /// Frames that end a session in whatever state it is.
    fn ends_session(&self, header: Result<Fields, Malformed>) -> bool {
        let Ok(frame) = header else { return true };
        let ours = (frame.stream % 2 == 1) == (self.role == Role::Client);
        match frame.kind {
            GO_AWAY => frame.length != 0,
            PING => false,
            _ if frame.stream == 0 => true,
            DATA if frame.has(SYN) && frame.length > WINDOW_SIZE => true,
            WINDOW
                if frame.has(SYN) && !frame.has(RST) && frame.length > u32::MAX - WINDOW_SIZE =>
            {
                true
            }
            _ => frame.has(SYN) && ours,
        }
    }

    fn judge_rule(&self, rule: Violation, frame: Fields) {
        let ours = (frame.stream % 2 == 1) == (self.role == Role::Client);
        let fits = match rule {
            Violation::ZeroStreamId => frame.stream == 0 && frame.kind < PING,
            Violation::WrongParity => frame.has(SYN) && ours && frame.kind < PING,
            Violation::DuplicateStream => frame.has(SYN) && !ours && frame.kind < PING,
            Violation::WindowOverflow => frame.kind == WINDOW && frame.length > 0,
            Violation::WindowExceeded => frame.kind == DATA && frame.length > 0,
            Violation::LateData | Violation::NeverOpened => {
                frame.kind == DATA && frame.length > 0 && !frame.has(SYN)
            }
            Violation::Flood(Flood::EmptyFrames) => frame.body() == 0,
            Violation::Flood(Flood::EarlyResets) => frame.has(RST) && frame.kind < PING,
            Violation::Flood(Flood::Pings) => frame.kind == PING && frame.has(SYN),
            Violation::Flood(Flood::Refusals) => frame.has(SYN) && !ours,
            _ => false,
        };
        assert!(fits, "{rule:?} does not fit {frame:?}");
    }
}
