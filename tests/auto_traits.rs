//! What can cross threads: every public type but `LocalDriver`, and the futures of the public
//! methods. A field that is not `Send` deep inside would otherwise show in a user's program first.

use std::error::Error;

use trunkline::{runtime::BoxFuture, *};

const fn sent_and_shared<T: Send + Sync + Unpin + 'static>() {}
const fn sent<T: Send + Unpin + 'static>() {}
const fn errors<T: Error + Send + Sync + 'static>() {}
const fn sent_future<T: Send>(_: &T) {}

/// Each type is named once; that it compiles is the test.
macro_rules! check {
    ($bound:ident: $($name:ty),* $(,)?) => {
        $(const _: () = $bound::<$name>();)*
    };
}

check!(sent_and_shared:
    Config, ConfigBuilder, Dispatcher, Flood, GoAwayCode, Incoming, Protocol, ReadHalf, ResetCode,
    Role, Session, Stats, Stream, Streams, Violation, WriteHalf,
);
check!(sent: Driver, BoxFuture);
check!(errors:
    ConfigError, OpenError, PingError, ProtocolError, ReuniteError, SessionError, StreamError,
    TryOpenError,
);

mod frames {
    use super::*;
    use trunkline::frame::*;

    check!(sent_and_shared: Decoder, Flags, Frame, Header, Kind, Piece<'static>, StreamId);
    check!(errors: HeaderError);
}

mod runtimes {
    use super::*;
    use trunkline::runtime::*;

    check!(sent_and_shared: ManualTimer, Runtime, ThreadTimer);
    #[cfg(feature = "tokio")]
    check!(sent_and_shared: tokio::TokioTimer);
    #[cfg(any(feature = "sp", feature = "rpc", feature = "peers"))]
    check!(sent_and_shared: Backoff);
}

mod transports {
    use super::*;
    use trunkline::transport::*;

    check!(sent_and_shared:
        Address, Framing, Settings, Transports, memory::Duplex, memory::Memory, mux::Mux,
    );
    check!(sent: Box<dyn Acceptor>, Connection);
    check!(errors: AddressError, UnknownScheme);
    #[cfg(feature = "tokio")]
    check!(sent_and_shared: tcp::Tcp);
    #[cfg(all(feature = "tokio", unix))]
    check!(sent_and_shared: unix::Unix);
}

#[cfg(feature = "exchange")]
mod exchanges {
    use super::*;
    use trunkline::exchange::*;

    check!(sent_and_shared:
        Code, Decoder, Event, Exchange, ExchangeConfig, ExchangeConfigBuilder, ExchangeSet,
        Exchanges, Health, Inbound, Kind, Message, SetConfig, SetStats,
    );
    check!(errors: ExchangeError, Malformed);
}

#[cfg(feature = "rpc")]
mod calls {
    use super::*;
    use trunkline::rpc::*;

    check!(sent_and_shared:
        Attempt<'static>, Body, Cached<Fixed>, Call<'static, Retry<Channel>, codec::Raw>,
        Candidate<'static>, Channel, Client, ClientBuilder, Connection, Context, Endpoint, Fixed,
        Layered<Router>, LeastPending, Metadata, MethodKind, Node, Random, Reply<u32>, Request,
        Response, Retry<Channel>, Retryable, RoundRobin, Router, Sender<u32, codec::Raw>, Server<Router>,
        ServerBuilder, ServerStats, Stack, Text, Trailers, Wrap<Channel>, codec::Raw, wire::Failure,
        wire::RequestHead, wire::ResponseHead,
    );
    check!(sent: Pending<u32, codec::Raw>, Receiver<u32, codec::Raw>);
    check!(errors: RegisterError, Status, wire::BadHead, wire::TooLong);
    #[cfg(feature = "json")]
    check!(sent_and_shared: codec::Json);
    #[cfg(feature = "protobuf")]
    check!(sent_and_shared: codec::Protobuf);

    #[test]
    fn the_futures_of_calls_cross_threads() {
        fn check(client: &Client, server: &Server<Router>, session: Session) {
            let body = bytes::Bytes::new();
            sent_future(&client.call::<_, bytes::Bytes>("Echo.Say", &body));
            sent_future(&server.serve(session));
            sent_future(&server.shutdown(std::time::Duration::ZERO));
        }
        let _ = check;
    }
}

#[cfg(feature = "peers")]
mod peer_stores {
    use super::*;
    use trunkline::peers::*;

    check!(sent_and_shared:
        Ack, AckReport, Claim, IoError, Message, Overflow, Peer, PeerConfig, PeerConfigBuilder, PeerEvent,
        PeerId, PeerInfo, PeerStats, PeerStore, PeerStoreBuilder, PeerTransport, Policy,
        Queue<PeerEvent>, RefusalCode, wire::Answer, wire::Decoder, wire::Frame, wire::Hello,
    );
    check!(sent: Sending);
    check!(errors: ConnectError, InvalidPeerId, SendError, wire::Malformed);

    #[test]
    fn the_futures_of_peers_cross_threads() {
        fn check(store: &PeerStore, peer: &Peer, id: &PeerId) {
            sent_future(&store.get(id));
            sent_future(&store.connect("memory://a"));
            sent_future(&store.listen("memory://a"));
            sent_future(&store.shutdown());
            sent_future(&peer.connected());
        }
        let _ = check;
    }
}

#[cfg(feature = "sp")]
mod sockets {
    use super::*;
    use trunkline::sp::*;

    check!(sent_and_shared:
        Broken, DeviceEnd, Dialer, Info, Listener, Message, Options, OptionsBuilder, Origin, Pipe,
        PipeEvent, PipeEvents, ProtocolId, RawRep, RawReq, RepContext, RepSocket, Replier,
        ReqContext, ReqSocket, sp::Stats, wire::Inbox, wire::Outbox,
    );
    check!(errors:
        ContextError, DialError, EndpointError, HandshakeError, ListenError, PipeError, RecvError,
        RequestError, SendError, SendMessageError, wire::BacktraceError, wire::HeaderError,
        wire::MessageError,
    );

    #[test]
    fn the_futures_of_sockets_cross_threads() {
        fn check(req: &ReqSocket, rep: &RepSocket) {
            sent_future(&req.request("a"));
            sent_future(&req.dial("memory://a"));
            sent_future(&req.close());
            sent_future(&rep.recv());
            sent_future(&rep.listen("memory://a"));
        }
        let _ = check;
    }
}

#[test]
fn the_futures_of_sessions_cross_threads() {
    fn check(session: &Session, stream: &mut Stream, bytes: &mut bytes::Bytes) {
        sent_future(&session.open());
        sent_future(&session.accept());
        sent_future(&session.ping());
        sent_future(&session.close());
        sent_future(&session.closed());
        sent_future(&Dispatcher::open(session, Protocol::RAW));
        sent_future(&stream.read_chunk(1));
        sent_future(&stream.write_chunk(bytes));
    }
    let _ = check;
}
