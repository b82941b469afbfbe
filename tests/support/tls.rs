//! TLS with certificates for both ends, over connections in memory: the server is "bob", whoever
//! dials is "ann".
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::{io, sync::Arc};

use futures::FutureExt;
use futures_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::WebPkiClientVerifier,
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use trunkline::transport::{
    Accepting, Acceptor, Address, Binding, Connecting, Connection, Connector, Settings, Transport,
    memory,
};

/// Signs certificates.
pub struct Authority {
    client: TlsConnector,
    server: TlsAcceptor,
}

/// The certificate of the other end, as it was verified.
#[derive(Clone, Debug)]
pub struct Certificate(pub CertificateDer<'static>);

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let sign = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            (vec![certificate.der().clone()], key)
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let (chain, key) = sign("bob");
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = sign("ann");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Self {
            client: TlsConnector::from(Arc::new(client)),
            server: TlsAcceptor::from(Arc::new(server)),
        }
    }

    pub fn transport(&self) -> Tls {
        self.over(Arc::new(memory::Memory::default()))
    }

    /// TLS over another transport.
    pub fn over(&self, below: Arc<dyn Transport>) -> Tls {
        Tls { below, client: self.client.clone(), server: self.server.clone() }
    }
}

#[derive(Clone)]
pub struct Tls {
    below: Arc<dyn Transport>,
    client: TlsConnector,
    server: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Transport for Tls {
    fn connector(&self, address: &Address, settings: &Settings) -> io::Result<Box<dyn Connector>> {
        let inner = self.below.connector(address, settings)?.into();
        let name = ServerName::try_from(address.rest().to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(Dial { inner, name, tls: self.client.clone() }))
    }

    fn bind(&self, address: &Address, settings: &Settings) -> Binding {
        let (inner, tls) = (self.below.bind(address, settings), self.server.clone());
        async move { Ok(Box::new(Listen { inner: inner.await?, tls }) as Box<dyn Acceptor>) }
            .boxed()
    }
}

struct Dial {
    inner: Arc<dyn Connector>,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector for Dial {
    fn connect(&self) -> Connecting {
        let (inner, name, tls) = (self.inner.clone(), self.name.clone(), self.tls.clone());
        async move {
            let connection = inner.connect().await?;
            let remote = connection.remote_addr().cloned();
            let io = tls.connect(name, connection.into_io()).await?;
            let certificates = io.get_ref().1.peer_certificates();
            let theirs = certificates.and_then(<[_]>::first).unwrap().clone();
            Ok(Connection::new(io).remote(remote).evidence(Certificate(theirs)))
        }
        .boxed()
    }
}

struct Listen {
    inner: Box<dyn Acceptor>,
    tls: TlsAcceptor,
}

impl Acceptor for Listen {
    fn accept(&mut self) -> Accepting<'_> {
        async {
            let connection = self.inner.accept().await?;
            let io = self.tls.accept(connection.into_io()).await?;
            let certificates = io.get_ref().1.peer_certificates();
            let theirs = certificates.and_then(<[_]>::first).unwrap().clone();
            Ok(Connection::new(io).evidence(Certificate(theirs)))
        }
        .boxed()
    }

    fn local_addr(&self) -> Option<Address> {
        self.inner.local_addr()
    }
}
