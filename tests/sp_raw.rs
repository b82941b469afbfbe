//! Raw sockets and devices.
#![allow(clippy::unwrap_used)]

mod sp_support;

use sp_support::{
    Peer, PeerListener, REQ, defaults, echo_at, ms, options, raw_rep, raw_req, req, run, settle,
    sleep, words,
};
use trunkline::{
    sp::{Broken, DeviceEnd, Message, RecvError, SendError, device},
    transport::{Transports, memory::Memory},
};

const ID: u32 = 0x8000_002a;

#[test]
fn raw_rep_puts_the_pipe_before_the_backtrace() {
    run(async {
        // spec.md §13.6
        let transports = Transports::default();
        let server = raw_rep(&transports, options(|it| it.max_hops(2)));
        server.listen("memory://raw").await.unwrap();
        let mut peer = Peer::dial(&transports, "memory://raw", REQ).await;
        peer.send(&words(&[5, 6, ID], b"too far")).await;
        peer.send(b"junk").await;
        peer.send(&words(&[5, ID], b"ping")).await;
        let message = server.recv_message().await.unwrap();
        let pipe = message.pipe.clone().unwrap().id();
        assert_eq!(message.header, words(&[pipe, 5, ID], b""));
        assert_eq!(message.body, "ping");
        assert_eq!(server.stats().junk, 2);
        // No such route.
        server.send_message(Message::new(words(&[pipe ^ 1, ID], b""), "lost")).await.unwrap();
        server.send_message(Message::new("", "lost")).await.unwrap();
        server.send_message(Message::new(message.header, "pong")).await.unwrap();
        assert_eq!(peer.recv().await, words(&[5, ID], b"pong"));
        assert_eq!(server.stats().dropped, 2);
    });
}

#[test]
fn raw_req_leaves_headers_alone() {
    run(async {
        // spec.md §13.6
        let transports = Transports::default();
        let client = raw_req(&transports, defaults());
        let dialer = client.dialer("memory://raw", defaults()).unwrap();
        let (mut listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        client.send_message(Message::new(words(&[7, ID], b""), "ping")).await.unwrap();
        assert_eq!(peer.recv().await, words(&[7, ID], b"ping"));
        peer.send(&words(&[7, ID], b"pong")).await;
        let message = client.recv_message().await.unwrap();
        assert_eq!(
            (message.header.to_vec(), &message.body[..]),
            (words(&[7, ID], b""), &b"pong"[..])
        );
        // Nothing is sent again when the pipe is lost.
        drop(peer);
        let mut peer = listener.serve().await;
        assert_eq!(peer.recv_within(ms(100_000)).await, None);
    });
}

#[test]
fn raw_queues_hold_what_they_should_and_resizing_keeps_it() {
    run(async {
        let transports = Transports::default();
        let client = raw_req(&transports, options(|it| it.send_timeout(Some(ms(20)))));
        for number in 0..128_u8 {
            client.try_send_message(Message::new(words(&[ID], b""), vec![number])).unwrap();
        }
        let one_more = || Message::new(words(&[ID], b""), "one more");
        let full = client.try_send_message(one_more()).unwrap_err();
        assert_eq!(full.error, SendError::WouldBlock);
        assert_eq!(client.send_message(one_more()).await.unwrap_err().error, SendError::TimedOut);
        client.configure(options(|it| it.send_queue(2)));
        let dialer = client.dialer("memory://raw", defaults()).unwrap();
        let (_listener, mut peer) = PeerListener::dialled(&transports, &dialer).await;
        for number in 0..128_u8 {
            assert_eq!(peer.recv().await, words(&[ID], &[number]));
        }
    });
}

#[test]
fn a_full_receive_queue_stops_the_reading() {
    run(async {
        let transports = Transports::default().with("tight", Memory::new(100));
        let server = raw_rep(&transports, defaults());
        server.listen("tight://raw").await.unwrap();
        let mut peer = Peer::dial(&transports, "tight://raw", REQ).await;
        let mut sent = 0_u32;
        while tokio::time::timeout(ms(5), peer.send(&words(&[ID], &sent.to_be_bytes())))
            .await
            .is_ok()
        {
            sent += 1;
            assert!(sent < 10_000, "it has to be full some time");
        }
        assert!((128..800).contains(&sent), "{sent}");
        for number in 0..sent {
            let message = server.recv_message().await.unwrap();
            assert_eq!(message.body, number.to_be_bytes()[..]);
        }
    });
}

#[test]
fn a_stalled_pipe_does_not_hold_the_others_messages() {
    run(async {
        let transports = Transports::default().with("tight", Memory::new(64));
        let small = options(|it| it.send_buffer(100).send_timeout(Some(ms(10))));
        let server = raw_rep(&transports, small);
        server.listen("tight://raw").await.unwrap();
        let mut stalled = Peer::dial(&transports, "tight://raw", REQ).await;
        let mut lively = Peer::dial(&transports, "tight://raw", REQ).await;
        stalled.send(&words(&[ID], b"")).await;
        let to_stalled = server.recv_message().await.unwrap().header;
        lively.send(&words(&[ID], b"")).await;
        let to_lively = server.recv_message().await.unwrap().header;
        let mut errors = 0;
        for number in 0..20_u8 {
            let reply = Message::new(to_stalled.clone(), vec![0; 50]);
            errors += usize::from(server.send_message(reply).await.is_err());
            server.send_message(Message::new(to_lively.clone(), vec![number])).await.unwrap();
            assert_eq!(lively.recv().await, words(&[ID], &[number]));
        }
        assert!(errors > 10, "{errors}");

        // Any free pipe takes the next.
        let client = raw_req(&transports, options(|it| it.send_buffer(1)));
        let mut listener = PeerListener::bind(&transports, "tight://req").await;
        let mut peers = Vec::new();
        for _ in 0..2 {
            client.dialer("tight://req", client.options()).unwrap().dial_background().unwrap();
            peers.push(listener.serve().await);
        }
        settle().await;
        let mut received = 0;
        for _ in 0..30 {
            client.send_message(Message::new(words(&[ID], b""), vec![0; 60])).await.unwrap();
            received += usize::from(peers[1].recv_within(ms(1)).await.is_some());
        }
        assert!(received >= 26, "{received}");
    });
}

#[test]
fn best_effort_replies_arrive_while_there_is_room() {
    run(async {
        let transports = Transports::default();
        let server = raw_rep(&transports, options(|it| it.best_effort(true)));
        server.listen("memory://raw").await.unwrap();
        let mut peer = Peer::dial(&transports, "memory://raw", REQ).await;
        for _ in 0..400 {
            peer.send(&words(&[ID], b"x")).await;
            let message = server.recv_message().await.unwrap();
            server.send_message(Message::new(message.header, message.body)).await.unwrap();
        }
        for _ in 0..400 {
            assert_eq!(peer.recv().await, words(&[ID], b"x"));
        }
        assert_eq!(server.stats().dropped, 0);
    });
}

#[test]
fn raw_sockets_time_out_and_close() {
    run(async {
        let transports = Transports::default();
        let server = raw_rep(&transports, options(|it| it.recv_timeout(Some(ms(10)))));
        assert_eq!(server.try_recv_message().unwrap_err(), RecvError::WouldBlock);
        assert_eq!(server.recv_message().await.unwrap_err(), RecvError::TimedOut);
        server.close().await;
        assert_eq!(server.recv_message().await.unwrap_err(), RecvError::Closed);
        let error = server.send_message(Message::default()).await.unwrap_err().error;
        assert_eq!(error, SendError::Closed);
    });
}

#[test]
fn a_device_adds_a_word_and_takes_it_off() {
    run(async {
        // spec.md §13.6
        let transports = Transports::default();
        let (front, back) = (raw_rep(&transports, defaults()), raw_req(&transports, defaults()));
        front.listen("memory://front").await.unwrap();
        let mut listener = PeerListener::bind(&transports, "memory://back").await;
        back.dialer("memory://back", defaults()).unwrap().dial_background().unwrap();
        let running = tokio::spawn(device(front.clone(), back));
        let mut server = listener.serve().await;
        let mut client = Peer::dial(&transports, "memory://front", REQ).await;
        client.send(&words(&[ID], b"ping")).await;
        settle().await;
        let pipe = front.pipes()[0].id();
        assert_eq!(server.recv().await, words(&[pipe, ID], b"ping"));
        server.send(&words(&[pipe, ID], b"pong")).await;
        assert_eq!(client.recv().await, words(&[ID], b"pong"));
        front.close().await;
        let end = running.await.unwrap();
        assert_eq!(end, DeviceEnd::Front(Broken::Recv(RecvError::Closed)));
    });
}

#[test]
fn a_device_ends_with_either_side() {
    run(async {
        let transports = Transports::default();
        let waits = options(|it| it.recv_timeout(Some(ms(10))));
        let (front, back) = (raw_rep(&transports, waits.clone()), raw_req(&transports, waits));
        let running = tokio::spawn(device(front, back.clone()));
        sleep(ms(1_000)).await;
        assert!(!running.is_finished(), "a timeout is not the end");
        back.close().await;
        let end = running.await.unwrap();
        assert_eq!(end, DeviceEnd::Back(Broken::Recv(RecvError::Closed)));
    });
}

#[test]
fn seven_devices_in_a_row_pass_a_request_and_eight_do_not() {
    run(async {
        let transports = Transports::default();
        let _server = echo_at(&transports, "memory://0").await;
        let mut devices = Vec::new();
        for hop in 1..=8 {
            let far = options(|it| it.max_hops(20));
            let (front, back) = (raw_rep(&transports, far.clone()), raw_req(&transports, far));
            front.listen(&format!("memory://{hop}")).await.unwrap();
            back.dial(&format!("memory://{}", hop - 1)).await.unwrap();
            devices.push(tokio::spawn(device(front, back)));
        }
        for hop in 0..=8 {
            let client = req(&transports, options(|it| it.recv_timeout(Some(ms(100)))));
            client.dial(&format!("memory://{hop}")).await.unwrap();
            assert_eq!(client.request("through").await.is_ok(), hop < 8, "{hop}");
        }
        // Dropping a device stops it, both ways.
        devices.pop().unwrap().abort();
        settle().await;
        let client = req(&transports, defaults());
        client.dial("memory://8").await.unwrap_err();
    });
}
