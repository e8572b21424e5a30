//! What the doors show, and whom they believe. Both can be exchanged while the doors serve.
//!
//! **Flow.** [`Keys::enter`] shakes hands on a connection and reads what the other side showed. [`Standing::lost`] ends
//! when the certificate that a connection was let in with would be refused by now: after every exchange of the keys, and
//! from time to time for its expiry, it is verified once more, so what is revoked is cut off and not only kept out.
//!
//! **Guarantees.** A handshake has a time (its caller's), and there are [`HANDSHAKES_MAX`] at once; others wait. What fails
//! ends its own connection. Sessions of the keys before cannot be resumed under those after.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Certificate;

/// Handshakes at once, all doors of the same keys together.
pub const HANDSHAKES_MAX: usize = 1024;

/// How often a certificate that a connection was let in with is looked at again, for its expiry.
const RECHECK: Duration = Duration::from_secs(600);

/// The first byte of TLS. Source: RFC 8446 section 5.1, `handshake`.
const TLS_FIRST_BYTE: u8 = 0x16;

/// What a client is told that speaks HTTP without TLS.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    regrow: this door speaks TLS: ask by https:// and believe the keys/ca.pem of the agent's data folder\n";

/// What one set of files says.
#[derive(Debug)]
pub struct Material {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Material {
    /// Puts it together. `chain` and `key`: what is shown. `authorities`: who may have signed what others show; `revoked`:
    /// what they have taken back.
    ///
    /// # Errors
    /// What does not fit, in rustls' words.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(&provider, authorities, revoked)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain, key)
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), verifier })
    }
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    authorities: Vec<CertificateDer<'static>>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| format!("a certificate authority: {error}"))?;
    }
    // Who shows no certificate is let in as nobody: a token may follow. A wrong one is refused here.
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(revoked)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status()
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

/// The keys of the doors. Cheap to clone; all clones change together.
#[derive(Clone, Debug)]
pub struct Keys {
    material: Arc<watch::Sender<Arc<Material>>>,
    room: Arc<Semaphore>,
}

impl Keys {
    /// Keys that may be exchanged later.
    pub fn new(material: Material) -> Self {
        let (material, _) = watch::channel(Arc::new(material));
        Self { material: Arc::new(material), room: Arc::new(Semaphore::new(HANDSHAKES_MAX)) }
    }

    /// Exchanges them. Connections that these keys would let in go on.
    pub fn exchange(&self, material: Material) {
        self.material.send_replace(Arc::new(material));
    }

    /// Shakes hands.
    pub(crate) async fn enter(&self, mut stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Standing)> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_FIRST_BYTE {
            stream.write_all(NOT_TLS).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS"));
        }
        // It is never closed.
        let _permit = self.room.acquire().await;
        let mut material = self.material.subscribe();
        let config = material.borrow_and_update().config.clone();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let chain: Vec<_> = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|one| one.clone().into_owned())
            .collect();
        let certificate = match chain.first() {
            None => None,
            Some(first) => {
                let read = Certificate::read(first);
                Some(Arc::new(read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?))
            }
        };
        Ok((stream, Standing { chain, certificate, material }))
    }
}

/// What a connection was let in with.
#[derive(Debug)]
pub(crate) struct Standing {
    chain: Vec<CertificateDer<'static>>,
    pub(crate) certificate: Option<Arc<Certificate>>,
    material: watch::Receiver<Arc<Material>>,
}

impl Standing {
    /// Ends when that would not be let in by now.
    pub(crate) async fn lost(mut self) {
        let Some((first, rest)) = self.chain.split_first() else { return std::future::pending().await };
        loop {
            if let Ok(Err(_)) = timeout(RECHECK, self.material.changed()).await {
                // The doors are closing.
                return std::future::pending().await;
            }
            let verifier = self.material.borrow_and_update().verifier.clone();
            if let Err(error) = verifier.verify_client_cert(first, rest, UnixTime::now()) {
                let who = self.certificate.as_ref().map_or("", |certificate| &certificate.subject);
                tracing::info!(who, "a connection is cut, its certificate is no longer good: {error}");
                return;
            }
        }
    }
}
