//! Futures of an exchange that are dropped before they are done.
#![cfg(feature = "exchange")]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, future::join};
use trunkline::{
    Config, Dispatcher, Protocol, Session,
    exchange::{Exchange, ExchangeConfig, Kind, Message},
    transport::memory::duplex,
};

#[test]
fn a_finish_that_was_dropped_is_made_good_by_the_next() {
    let (left, right) = duplex(4096);
    let (client, driver) = Session::client(left, Config::default());
    smol::spawn(driver).detach();
    let (server, driver) = Session::server(right, Config::default());
    smol::spawn(driver).detach();
    let mut dispatcher = Dispatcher::new(server.clone());
    let mut streams = dispatcher.serve(Protocol::EXCHANGE, 1).unwrap();
    smol::spawn(dispatcher.run()).detach();

    let config = ExchangeConfig::default();
    let mut asked = Exchange::open(&client, &config);
    // Lest a failure waits for ever.
    asked.set_deadline(Instant::now() + Duration::from_secs(20)).unwrap();
    smol::block_on(async {
        // Four windows: no room before the other side reads.
        let large = Message::new(Kind::Request, vec![7; 1 << 20]);
        asked.send(Message::new(Kind::Request, "first")).await.unwrap();
        assert!(asked.send(large).now_or_never().is_none());
        assert!(asked.finish().now_or_never().is_none());

        let mut other = Exchange::accept(&server, streams.next().await.unwrap(), &config);
        let read = async { [other.recv().await, other.recv().await] };
        let (finished, messages) = join(asked.finish(), read).await;
        finished.unwrap();
        let sizes = messages.map(|message| message.unwrap().unwrap().body.len());
        assert_eq!(sizes, [5, 1 << 20]);
        asked.finish().await.unwrap();
        assert_eq!(other.recv().await, Ok(None));
    });
}
