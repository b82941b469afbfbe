//! A device: requests that come to one socket go out of another, and the replies go back.

use std::{fmt, pin::pin};

use futures::future::{Either, select};

use super::{
    error::{RecvError, SendError},
    raw::{RawRep, RawReq},
};

/// Passes requests from `front` to `back` and replies from `back` to `front`, byte for byte, until
/// one of the sockets ends. Spawn it.
///
/// Each device adds a word to the backtrace of a request, by which the reply finds its way back.
/// The `max_hops` of whoever receives a request limits how many it may have passed.
///
/// A reply for a peer that does not read holds up the replies behind it, unless `front` has
/// `best_effort`.
///
/// # Cancel safety
///
/// Dropping the future stops both directions; a message on its way may be lost.
///
/// ```
/// use trunkline::{runtime::Runtime, transport::Transports};
/// use trunkline::sp::{Options, RawRep, RawReq, RepSocket, ReqSocket, device};
/// # smol::block_on(async {
/// # let (runtime, network) = (Runtime::new(|task| smol::spawn(task).detach()), Transports::default());
///
/// let server = RepSocket::new(runtime.clone(), network.clone(), Options::default());
/// server.listen("memory://server").await?;
/// # smol::spawn(async move {
/// #     while let Ok((request, replier)) = server.recv().await {
/// #         replier.send(request).await.ok();
/// #     }
/// # })
/// # .detach();
///
/// let front = RawRep::new(runtime.clone(), network.clone(), Options::default());
/// front.listen("memory://front").await?;
/// let back = RawReq::new(runtime.clone(), network.clone(), Options::default());
/// back.dial("memory://server").await?;
/// smol::spawn(device(front, back)).detach();
///
/// let client = ReqSocket::new(runtime, network, Options::default());
/// client.dial("memory://front").await?;
/// assert_eq!(client.request("hello").await?, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn device(front: RawRep, back: RawReq) -> DeviceEnd {
    let requests = pin!(async {
        loop {
            let request = match front.recv_message().await {
                Ok(request) => request,
                Err(RecvError::TimedOut) => continue,
                Err(error) => break DeviceEnd::Front(Broken::Recv(error)),
            };
            match back.send_message(request).await.map_err(|failed| failed.error) {
                Ok(()) | Err(SendError::TimedOut) => {}
                Err(error) => break DeviceEnd::Back(Broken::Send(error)),
            }
        }
    });
    let replies = pin!(async {
        loop {
            let reply = match back.recv_message().await {
                Ok(reply) => reply,
                Err(RecvError::TimedOut) => continue,
                Err(error) => break DeviceEnd::Back(Broken::Recv(error)),
            };
            match front.send_message(reply).await.map_err(|failed| failed.error) {
                Ok(()) | Err(SendError::TimedOut) => {}
                Err(error) => break DeviceEnd::Front(Broken::Send(error)),
            }
        }
    });
    match select(requests, replies).await {
        Either::Left((end, _)) | Either::Right((end, _)) => end,
    }
}

/// Which side of a device ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEnd {
    /// The side that takes requests.
    Front(Broken),
    /// The side that passes them on.
    Back(Broken),
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Receiving.
    Recv(RecvError),
    /// Sending.
    Send(SendError),
}

impl fmt::Display for DeviceEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, broken) = match self {
            Self::Front(broken) => ("front", broken),
            Self::Back(broken) => ("back", broken),
        };
        match broken {
            Broken::Recv(error) => write!(f, "the {side} could not receive: {error}"),
            Broken::Send(error) => write!(f, "the {side} could not send: {error}"),
        }
    }
}
