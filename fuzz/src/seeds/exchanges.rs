//! What a peer may do with the first of its streams, as `exchanges` reads it.

use super::Seed;

/// Calls and exchanges of the peer's, of every shape, as they should be and not.
pub(super) fn theirs() -> Vec<Seed> {
    let chat = write(&asked(1, b"Echo.Chat", b""));
    let (one, two) = (write(&message(3, b"one")), write(&message(3, b"two")));
    let say = asked(0, b"Echo.Say", b"hi");
    let (down, up) = (write(&asked(0, b"Echo.Down", b"hi")), write(&asked(1, b"Echo.Up", b"")));
    // With a millisecond to live.
    let mut hurried = asked(1, b"Echo.Chat", b"");
    (hurried[1], hurried[7]) = (2, hurried[7] + 4);
    hurried.splice(8..8, [0, 0, 0, 1]);
    let fragments = write(b"\x03\x01\0\0\0\0\0\x02ab\x03\0\0\0\0\0\0\x01c");
    let long: &[u8] = &[3, 0, 0xff, 0xff, 3, 0, 0, 1];
    vec![
        seed("unary", &[CALL, &write(&say), FINISH, READ]),
        seed("client-streaming", &[CALL, &up, &one, &two, FINISH, READ]),
        seed("server-streaming", &[CALL, &down, READ, READ, READ]),
        seed("conversation", &[CALL, &chat, &one, READ, FINISH, READ]),
        seed("given-up", &[CALL, &chat, RESET]),
        seed("no-request", &[CALL, TWENTY_SECONDS, READ]),
        seed("half-a-request", &[CALL, &write(&say[..9]), FINISH, READ]),
        seed("a-promise", &[CALL, &write(b"\x01\0\0\0\xff\xff\xff\xff"), READ]),
        seed("a-kind-nobody-knows", &[CALL, &write(b"\x09\0\0\0\0\0\0\0"), READ]),
        seed("expired", &[CALL, &write(&hurried), SECOND, READ]),
        seed("fragments", &[EXCHANGE, &fragments, READ, FINISH, READ]),
        seed("an-error", &[EXCHANGE, &write(&message(4, b"\x03no!")), READ]),
        seed("a-long-message", &[EXCHANGE, &write(b"\x03\x01\0\0\0\x01\0\0"), long, READ]),
    ]
}

/// What a peer may answer to ours.
pub(super) fn ours() -> Vec<Seed> {
    let (yes, many) = (write(&answered(0, b"yes")), write(&answered(1, b"")));
    let (one, done) = (write(&message(3, b"one")), write(&answered(0, b"")));
    vec![
        seed("our-unary", &[UNARY, &yes, FINISH]),
        seed("our-unary-nobody-answers", &[UNARY, TWENTY_SECONDS]),
        seed("our-server-streaming", &[SERVER_STREAMING, &many, &one, &done, FINISH]),
        seed("our-client-streaming", &[CLIENT_STREAMING, &yes, FINISH]),
        seed("our-conversation", &[BIDIRECTIONAL, &many, &one, READ, &done, FINISH]),
        seed("our-exchange", &[OWN_EXCHANGE, &write(&message(2, b"yes")), FINISH]),
        seed("our-answer-is-none", &[UNARY, &write(b"no message at all"), FINISH]),
        seed("our-answer-is-half-there", &[UNARY, &write(b"\x02\0\0"), FINISH]),
    ]
}

fn seed(name: &'static str, steps: &[&[u8]]) -> Seed {
    Seed { target: "exchanges", name, bytes: steps.concat(), violates: None }
}

const CALL: &[u8] = &[0, 0];
const EXCHANGE: &[u8] = &[0, 1];
const FINISH: &[u8] = &[4, 0];
const RESET: &[u8] = &[5, 0, 4];
const READ: &[u8] = &[6, 0];
const SECOND: &[u8] = &[7, 1];
const TWENTY_SECONDS: &[u8] = &[7, 2];
const UNARY: &[u8] = &[7, 3];
const SERVER_STREAMING: &[u8] = &[7, 4];
const CLIENT_STREAMING: &[u8] = &[7, 5];
const BIDIRECTIONAL: &[u8] = &[7, 6];
const OWN_EXCHANGE: &[u8] = &[7, 7];

fn write(bytes: &[u8]) -> Vec<u8> {
    [&[1, 0, bytes.len() as u8], bytes].concat()
}

/// A message without a time to live.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, body.len() as u8], body].concat()
}

/// A request.
fn asked(streaming: u8, method: &[u8], body: &[u8]) -> Vec<u8> {
    let head = [&[streaming, 0, method.len() as u8], method, &[0, 0, 0, 0]].concat();
    message(1, &[&head, body].concat())
}

/// A response.
fn answered(streaming: u8, body: &[u8]) -> Vec<u8> {
    message(2, &[&[streaming, 0, 0, 0, 0, 0, 0], body].concat())
}
