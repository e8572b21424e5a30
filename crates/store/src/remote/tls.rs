//! TLS as a client: whom to believe, and who we are. Shared by all that speak to an agent or a store.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

/// What was revoked, beside the CA's file.
const REVOKED: &str = "ca.crl";

/// The files that a client needs for TLS. They are read for each connection, so whoever replaces them needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the certificate authorities that the other side's certificate must come from. The system's own are
    /// not believed unless their file is named here. A file `ca.crl` beside it says what they have revoked.
    pub ca: Option<PathBuf>,
    /// PEM file of this side's certificate, with those between it and the CA.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
}

/// Why there is no TLS. The caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No CA is named.
    #[error("https needs the certificate of the other side's CA: name its file with --tls-ca")]
    NoCa,
    /// A certificate without its key, or a key without its certificate.
    #[error("a certificate and its key go together: name both with --tls-cert and --tls-key")]
    Half,
    /// A file cannot be read, or is not what it should be.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl TlsError {
    fn file(path: &Path, why: impl fmt::Display) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}

impl Tls {
    /// Reads the files. `alpn`: the protocols to offer, the wanted one first.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        let ca = self.ca.as_deref().ok_or(TlsError::NoCa)?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| TlsError::file(ca, error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(revoked(&ca.with_file_name(REVOKED))?)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| TlsError::file(ca, error))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::file(ca, error))?
            .with_webpki_verifier(verifier);
        let mut config = match (&self.cert, &self.key) {
            (None, None) => config.with_no_client_auth(),
            (Some(cert), Some(key)) => config
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|error| TlsError::file(cert, error))?,
            _ => return Err(TlsError::Half),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// Connects, and proves who is there.
    ///
    /// # Errors
    /// What the system or the handshake says, with what to do about it.
    pub async fn connect(&self, host: &str, port: u16, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config(alpn).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}`: {error}")))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        stream.map_err(|error| match hint(&error) {
            Some(hint) => io::Error::new(error.kind(), format!("{error}: {hint}")),
            None => error,
        })
    }
}

/// The certificates of a PEM file; at least one.
///
/// # Errors
/// See [`TlsError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(TlsError::file(path, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::file(path, error)),
    }
}

/// The lists of a PEM file, if it is there.
fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| TlsError::file(path, error))
}

/// The key of a PEM file.
///
/// # Errors
/// See [`TlsError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::file(path, error))
}

/// What to do about a handshake or a connection that failed for reasons of TLS.
pub fn hint(error: &io::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "its certificate is not of the CA that --tls-ca names; take the keys/ca.pem of that cluster"
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "its certificate has expired; where its CA is: regrow key rotate node"
        }
        Error::InvalidCertificate(Certificate::Revoked) => "its certificate was revoked; where its CA is: regrow key",
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "its certificate is for other names; where its CA is: regrow key rotate node --address NAME"
        }
        Error::InvalidMessage(_) => "there is no TLS on that port; say http:// if that is meant",
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError) => {
            "it does not believe the CA of our certificate; take one that was signed there with regrow key client"
        }
        Error::AlertReceived(Alert::CertificateExpired) => "our certificate has expired; where its CA is: regrow key",
        _ => return None,
    })
}

/// Makes connections for the transport of gRPC.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<Tls>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            Ok(TokioIo::new(tls.connect(host, uri.port_u16().unwrap_or(443), &[b"h2"]).await?))
        })
    }
}
