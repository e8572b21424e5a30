//! Who is at the other end of a connection.

use std::{net::SocketAddr, sync::Arc};

/// The organizational unit of a node's certificate; that of a client's is its role.
pub const NODE: &str = "node";

/// Who is at the other end of a connection, as far as the connection itself shows. It is among the extensions of every
/// request, whichever door it comes by. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from.
    pub origin: Origin,
    /// What it showed, if it showed one.
    pub certificate: Option<Arc<Certificate>>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The agent's own socket, which only its owner and root can open.
    Unix {
        /// The user at the other end, as the kernel says.
        uid: Option<u32>,
    },
    /// A network.
    Tcp {
        /// The address of the other end.
        remote: SocketAddr,
        /// Whether it is sealed.
        tls: bool,
    },
}

impl Peer {
    /// Whether nobody between can read or change what is said.
    pub fn is_private(&self) -> bool {
        matches!(self.origin, Origin::Unix { .. } | Origin::Tcp { tls: true, .. })
    }
}

/// A certificate that the cluster's CA signed, that is valid now and not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names: its common name.
    pub subject: String,
    /// What it was signed for.
    pub kind: CertificateKind,
    /// Its serial number, as lower-case hexadecimal digits without separators.
    pub serial: String,
}

/// What a certificate was signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// An agent.
    Node,
    /// A person or a program.
    Client {
        /// `admin`, `operator` or `reader`, as the CA signed it; anything else is no role.
        role: String,
    },
}

impl Certificate {
    /// What a certificate says of whom it names. It must have been verified.
    ///
    /// # Errors
    /// A sentence, for what is no certificate or names nobody.
    pub fn read(der: &[u8]) -> Result<Certificate, String> {
        let (_, read) = x509_parser::parse_x509_certificate(der).map_err(|error| format!("no certificate: {error}"))?;
        let subject = read.subject();
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        let name = name.filter(|name| !name.is_empty()).ok_or("the certificate names nobody: it has no common name")?;
        let unit = subject.iter_organizational_unit().next().and_then(|unit| unit.as_str().ok()).unwrap_or_default();
        let kind = match unit {
            NODE => CertificateKind::Node,
            role => CertificateKind::Client { role: role.to_owned() },
        };
        let serial = read.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Certificate { subject: name.to_owned(), kind, serial })
    }
}
