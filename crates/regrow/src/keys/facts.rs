//! What a certificate says.

use crate::exit::Failure;
use regrow_serve::access::{Certificate, CertificateKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use std::net::IpAddr;
use std::path::Path;
use x509_parser::extensions::GeneralName;
use x509_parser::revocation_list::CertificateRevocationList;

/// Before its end a certificate is to be looked after: a month.
const SOON_SECONDS: i64 = 30 * 86_400;

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    /// `authority`, `node`, or a client's role.
    pub(crate) unit: String,
    pub(crate) serial: String,
    pub(crate) raw_serial: Vec<u8>,
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) public_key: Vec<u8>,
}

/// How good a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Valid,
    /// It ends within a month.
    Ending,
    Expired,
    Revoked,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Ending => "ending soon",
            State::Expired => "expired",
            State::Revoked => "revoked",
        }
    }
}

impl Facts {
    /// How good it is at a time, with these revoked.
    pub(crate) fn state(&self, now: i64, revoked: &[Vec<u8>]) -> State {
        if revoked.contains(&self.raw_serial) {
            State::Revoked
        } else if now > self.until {
            State::Expired
        } else if now > self.until - SOON_SECONDS {
            State::Ending
        } else {
            State::Valid
        }
    }
}

/// Reads a certificate.
pub(crate) fn facts(der: &CertificateDer<'_>) -> Result<Facts, Failure> {
    let certificate = Certificate::read(der).map_err(Failure::failed)?;
    let (_, read) = x509_parser::parse_x509_certificate(der).map_err(Failure::failed)?;
    let unit = match certificate.kind {
        CertificateKind::Node => regrow_serve::access::NODE.to_owned(),
        CertificateKind::Client { role } => role,
    };
    let names = read.subject_alternative_name().map_err(Failure::failed)?;
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    });
    Ok(Facts {
        subject: certificate.subject,
        unit,
        serial: certificate.serial,
        raw_serial: read.raw_serial().to_vec(),
        names: names.collect(),
        issuer: read.issuer().to_string(),
        from: read.validity().not_before.timestamp(),
        until: read.validity().not_after.timestamp(),
        public_key: read.public_key().raw.to_vec(),
    })
}

/// Lists of what is revoked.
pub(crate) struct Lists(Vec<CertificateRevocationListDer<'static>>);

impl Lists {
    /// Those of a PEM text.
    pub(crate) fn read(text: &[u8]) -> Result<Lists, String> {
        let lists = CertificateRevocationListDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|error| error.to_string())?;
        for list in &lists {
            x509_parser::parse_x509_crl(list).map_err(|error| error.to_string())?;
        }
        Ok(Lists(lists))
    }

    fn parsed(&self) -> impl Iterator<Item = CertificateRevocationList<'_>> {
        self.0.iter().filter_map(|list| x509_parser::parse_x509_crl(list).ok()).map(|(_, list)| list)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number of one of them; 0 for none.
    pub(crate) fn number(&self) -> u64 {
        let number = |list: CertificateRevocationList<'_>| u64::try_from(list.crl_number()?).ok();
        self.parsed().filter_map(number).max().unwrap_or(0)
    }

    /// All serial numbers in them.
    pub(crate) fn serials(&self) -> Vec<Vec<u8>> {
        let mut serials = Vec::new();
        for list in self.parsed() {
            for revoked in list.iter_revoked_certificates() {
                let serial = revoked.raw_serial().to_vec();
                if !serials.contains(&serial) {
                    serials.push(serial);
                }
            }
        }
        serials
    }

    /// Those that one of these authorities has signed.
    pub(crate) fn signed_by(self, authorities: &[CertificateDer<'_>]) -> Lists {
        let signed = |list: &CertificateRevocationListDer<'_>| {
            let Ok((_, list)) = x509_parser::parse_x509_crl(list) else { return false };
            authorities.iter().any(|authority| {
                let Ok((_, authority)) = x509_parser::parse_x509_certificate(authority) else { return false };
                list.verify_signature(authority.public_key()).is_ok()
            })
        };
        Lists(self.0.into_iter().filter(signed).collect())
    }

    /// As PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.iter().map(|list| super::pem("X509 CRL", list)).collect()
    }
}

/// The serial numbers that the lists of a file revoke, and the highest number of a list.
pub(crate) fn revoked_serials(path: &Path) -> Result<(Vec<Vec<u8>>, u64), Failure> {
    let refuse = |why: &dyn std::fmt::Display| Failure::failed(format!("{}: {why}", path.display()));
    if !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let text = std::fs::read(path).map_err(|error| refuse(&error))?;
    let lists = Lists::read(&text).map_err(|why| refuse(&why))?;
    Ok((lists.serials(), lists.number()))
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, certificates};
    use super::*;

    /// A list counts if an authority that is believed has signed it; numbers and serials come back.
    #[test]
    fn lists_are_believed_by_their_signature() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut both = Vec::new();
        let mut text = String::new();
        for (number, serial) in [(3, [1, 2]), (7, [3, 4])] {
            let (authority, own) = Authority::create().expect("made");
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, own.certificate).expect("written");
            both.extend(certificates(&path).expect("read"));
            text += &authority.revoke(&[serial.to_vec()], number).expect("signed");
        }
        let read = || Lists::read(text.as_bytes()).expect("lists");
        assert_eq!((read().number(), read().serials()), (7, vec![vec![1, 2], vec![3, 4]]));
        assert_eq!(read().signed_by(&both).number(), 7);
        let one = read().signed_by(&both[..1]);
        assert_eq!((one.number(), one.serials()), (3, vec![vec![1, 2]]));
        assert_eq!(Lists::read(one.pem().as_bytes()).expect("lists").number(), 3);
        assert!(read().signed_by(&[]).is_empty());
        assert!(Lists::read(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").is_err());
    }
}
