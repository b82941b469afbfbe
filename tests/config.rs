//! Configurations at their edges.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, executor::block_on, future};
use trunkline::{Config, Session, transport::memory};

// spec.md §9.1.1
#[test]
fn times_without_end_do_not_overflow_the_clock() {
    let forever = Duration::MAX;
    let config = Config::builder()
        .keepalive(Some(forever))
        .ping_timeout(forever)
        .write_timeout(Some(forever))
        .open_timeout(Some(forever))
        .close_timeout(forever)
        .drain_timeout(forever)
        .linger(forever)
        .ack_delay(forever)
        .early_reset_interval(forever)
        .build()
        .unwrap();
    let (left, right) = memory::duplex(4096);
    let (client, driver) = Session::client(left, config.clone());
    let (server, peer) = Session::server(right, config);
    let work = async {
        let mut stream = client.open().await.unwrap();
        stream.write_all(b"hi").await.unwrap();
        stream.close().await.unwrap();
        let mut accepted = server.accept().await.unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.unwrap();
        accepted.close().await.unwrap();
        client.ping().await.unwrap();
        client.close().await
    };
    let (closed, ended, other) = block_on(future::join3(work, driver, peer));
    assert_eq!((closed, ended, other), (Ok(()), Ok(()), Ok(())));
}
