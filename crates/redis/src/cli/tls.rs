//! Certificates and keys from files.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::tls::Tls;

use super::failure::Failure;

fn failed(path: &Path, why: &impl std::fmt::Display) -> Failure {
    Failure::Refused {
        why: format!("{} cannot be used: {why}", path.display()),
        hint: "give a file in PEM form that this user can read".to_owned(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(path, &error))?;
    if all.is_empty() { Err(failed(path, &"it holds no certificate")) } else { Ok(all) }
}

/// How clients are received.
pub(super) fn server(certificate: &Path, key: &Path) -> Result<rustls::ServerConfig, Failure> {
    let chain = certificates(certificate)?;
    let secret = secret(key)?;
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| failed(certificate, &error))
}

/// How servers prove who they are: by whom their certificates are signed (`None`: by those that this system trusts), what is shown to
/// them in turn, and the name that their certificates are for.
pub(super) fn client(
    authority: Option<&Path>,
    shown: Option<(&Path, &Path)>,
    name: Option<&str>,
) -> Result<Tls, Failure> {
    let name = match name.map(|name| ServerName::try_from(name.to_owned())).transpose() {
        Ok(name) => name,
        Err(_) => {
            return Err(Failure::Refused {
                why: "no certificate can be for the name that is given".to_owned(),
                hint: "give a host name or an IP address".to_owned(),
            });
        }
    };
    let mut roots = rustls::RootCertStore::empty();
    match authority {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| failed(path, &error))?;
            }
        }
        // Some that cannot be read are no reason to refuse the rest.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(Path::new("TLS"), &error))?
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, secret) = (certificates(certificate)?, secret(key)?);
            builder.with_client_auth_cert(chain, secret).map_err(|error| failed(certificate, &error))?
        }
    };
    Ok(Tls::new(config, name))
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| failed(path, &error))
}
