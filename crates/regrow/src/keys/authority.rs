//! The authority: signs certificates, and takes them back.

use super::folder::{CA, CA_KEY, Folder};
use super::{Facts, facts, now};
use crate::exit::{Code, Failure};
use base64::Engine as _;
use clap::ValueEnum;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevocationReason,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use regrow_serve::access::NODE;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long an authority is good for.
const CA_DAYS: u32 = 3650;
/// Before now: clocks of other machines may be behind.
const EARLIER: Duration = Duration::from_secs(3600);
/// Seconds of a day.
const DAY: u64 = 86_400;

/// The organizational unit of an authority's own certificate.
pub(crate) const AUTHORITY: &str = "authority";

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Admin,
    /// Change what runs
    Operator,
    /// Look
    Reader,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Reader => "reader",
        }
    }
}

/// The addresses and names that a node is reached by.
pub(crate) type Names = Vec<String>;

/// A certificate to be signed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) subject: String,
    /// `None`: a node's.
    pub(crate) role: Option<Role>,
    pub(crate) names: Names,
    pub(crate) days: u32,
}

/// A certificate with its key, as PEM.
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) facts: Facts,
}

/// An authority with its key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Makes one; its certificate and its key as PEM.
    pub(crate) fn create() -> Result<(Authority, Signed), Failure> {
        let key = KeyPair::generate().map_err(unsigned)?;
        let mut params = CertificateParams::default();
        let mark: String = super::random::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = name(&format!("Regrow CA {mark}"), AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, CA_DAYS);
        let made = params.self_signed(&key).map_err(unsigned)?;
        let signed = Signed { certificate: made.pem(), key: key.serialize_pem(), facts: facts(made.der())? };
        let certificate = made.der().clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unsigned)?;
        Ok((Authority { issuer, certificate }, signed))
    }

    /// The authority that signs, of a folder.
    pub(crate) fn open(folder: &Folder) -> Result<Authority, Failure> {
        Authority::of(folder, CA_KEY)?.ok_or_else(|| {
            let hint = "run this where `regrow init` was run, or name that data folder with --data";
            let path = folder.path(CA_KEY);
            Failure::new(Code::NotFound, format!("the authority's key {} is not here\n  {hint}", path.display()))
        })
    }

    /// The authority whose key is in a file of a folder, if the file is there.
    pub(crate) fn of(folder: &Folder, file: &str) -> Result<Option<Authority>, Failure> {
        let path = folder.path(file);
        let Some(text) = folder.read_if_there(file)? else { return Ok(None) };
        let refuse = |why: &dyn std::fmt::Display| Failure::failed(format!("{}: {why}", path.display()));
        let key = KeyPair::from_pem(&text).map_err(|error| refuse(&error))?;
        let public = key.subject_public_key_info();
        let bundle = certificates(&folder.path(CA))?;
        let own = bundle.into_iter().find(|one| facts(one).is_ok_and(|facts| facts.public_key == public));
        let certificate = own.ok_or_else(|| refuse(&"its certificate is not in ca.pem beside it"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| refuse(&error))?;
        Ok(Some(Authority { issuer, certificate }))
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a key and signs a certificate for it.
    pub(crate) fn sign(&self, wanted: &Wanted) -> Result<Signed, Failure> {
        let key = KeyPair::generate().map_err(unsigned)?;
        let mut params = CertificateParams::new(wanted.names.clone())
            .map_err(|error| Failure::usage(format!("--address: {error}")))?;
        params.distinguished_name = name(&wanted.subject, wanted.role.map_or(NODE, Role::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if wanted.role.is_none() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, wanted.days);
        let made = params.signed_by(&key, &self.issuer).map_err(unsigned)?;
        Ok(Signed { certificate: made.pem(), key: key.serialize_pem(), facts: facts(made.der())? })
    }

    /// The list of what is revoked, as PEM.
    pub(crate) fn revoke(&self, serials: &[Vec<u8>], number: u64) -> Result<String, Failure> {
        let time = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now()).unwrap_or(0));
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: time,
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: time - EARLIER,
            next_update: time + Duration::from_secs(u64::from(CA_DAYS) * DAY),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(unsigned)
    }
}

/// The certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| Failure::failed(format!("cannot read the certificates of {}: {error}", path.display())))
}

/// A certificate or a list as PEM. Source: RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

/// A node's names: its own, this machine's, and those given.
pub(crate) fn names(node: &str, given: &[String]) -> Result<Names, Failure> {
    let own = [node, "localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Names = Vec::new();
    for name in own.into_iter().chain(given.iter().cloned()) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
        if name.parse::<IpAddr>().is_err() && (name.is_empty() || !name.chars().all(fits)) {
            return Err(Failure::usage(format!("--address: `{name}` is neither an IP address nor a DNS name")));
        }
        if name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            let why = "stands for all addresses of a machine: name those that others reach it at";
            return Err(Failure::usage(format!("--address: `{name}` {why}")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn name(common: &str, unit: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "regrow");
    name.push(DnType::OrganizationalUnitName, unit);
    name.push(DnType::CommonName, common);
    name
}

fn valid(params: &mut CertificateParams, days: u32) {
    let time = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now()).unwrap_or(0));
    params.not_before = time - EARLIER;
    params.not_after = time + Duration::from_secs(u64::from(days) * DAY);
}

fn unsigned(error: rcgen::Error) -> Failure {
    Failure::failed(format!("cannot sign: {error}"))
}
