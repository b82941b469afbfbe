//! Who may be a peer.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::PeerId;
use crate::transport::Address;

/// What a peer says of itself, and what the connection shows of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The id it says it has.
    pub id: PeerId,
    /// The [`token`](super::PeerConfigBuilder::token) that it sent with its id.
    pub token: Bytes,
    /// Whether we dialled; else the peer did.
    pub dialled: bool,
    /// The address of the other end, if the transport knows it.
    pub remote_addr: Option<Address>,
    /// What the transport knows of the other end, such as its certificate:
    /// [`Connection::evidence`](crate::transport::Connection::evidence).
    pub evidence: Option<Arc<dyn Any + Send + Sync>>,
}

/// Decides whether a peer is who it says it is. Any closure that takes a [`Claim`] does.
///
/// ```
/// use bytes::Bytes;
/// use trunkline::peers::{Claim, PeerConfig, PeerId, PeerStore};
/// # use trunkline::{runtime::Runtime, transport::Transports};
/// # let (runtime, network) = (Runtime::new(|task| smol::spawn(task).detach()), Transports::default());
///
/// // Both ends send a token and look at the other's.
/// let config = PeerConfig::builder().token("a secret of the cluster".into()).build()?;
/// let store = PeerStore::builder(PeerId::new("ann")?, runtime, network)
///     .config(config)
///     .verify(|claim: &Claim| match &claim.token[..] {
///         b"a secret of the cluster" => Ok(Bytes::from("one of us")),
///         _ => Err("not one of us".to_owned()),
///     })
///     .build();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// With TLS the transport hands on the certificate that it verified
/// ([`Connection::evidence`](crate::transport::Connection::evidence)), and the identity is taken
/// from [`Claim::evidence`].
///
/// If it panics, the peer is refused.
pub trait Verify: Send + Sync + 'static {
    /// Returns the verified identity, in whatever form the application likes. It is shown in
    /// [`PeerInfo`](super::PeerInfo). If the peer comes back with another,
    /// [`identity_changed`](Self::identity_changed) decides.
    ///
    /// # Errors
    ///
    /// Why the peer is refused. The peer is told that.
    fn verify(&self, claim: &Claim) -> Result<Bytes, String>;

    /// Called after [`verify`](Self::verify) if the identity is not the one that the peer had the
    /// last time. Refuses by default.
    ///
    /// # Errors
    ///
    /// Why the peer is refused. The peer is told that.
    fn identity_changed(&self, claim: &Claim, before: &Bytes, now: &Bytes) -> Result<(), String> {
        let _ = (claim, before, now);
        Err("another identity than before".to_owned())
    }
}

impl<F> Verify for F
where
    F: Fn(&Claim) -> Result<Bytes, String> + Send + Sync + 'static,
{
    fn verify(&self, claim: &Claim) -> Result<Bytes, String> {
        self(claim)
    }
}

/// Believes everyone.
pub(super) struct Trusting;

impl Verify for Trusting {
    fn verify(&self, _: &Claim) -> Result<Bytes, String> {
        Ok(Bytes::new())
    }
}
