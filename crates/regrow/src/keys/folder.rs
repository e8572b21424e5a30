//! The files.

use super::authority::certificates;
use crate::exit::{Code, Failure};
use regrow_serve::access::Material;
use regrow_store::tls::Tls;
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer, pem::PemObject};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The authorities that are believed.
pub(crate) const CA: &str = "ca.pem";
/// The key of the one that signs.
pub(crate) const CA_KEY: &str = "ca.key";
/// The key of the one before.
pub(crate) const CA_OLD_KEY: &str = "ca-old.key";
/// What was revoked.
pub(crate) const CRL: &str = "ca.crl";
/// The node's certificate.
pub(crate) const NODE: &str = "node.pem";
/// Its key.
pub(crate) const NODE_KEY: &str = "node.key";
/// A client's certificate.
pub(crate) const CLIENT: &str = "client.pem";
/// Its key.
pub(crate) const CLIENT_KEY: &str = "client.key";
/// Gossip's keys.
pub(crate) const GOSSIP: &str = "gossip.key";
/// The first administrator's token.
pub(crate) const ADMIN_TOKEN: &str = "admin.token";
/// Copies of all that was signed.
const ISSUED: &str = "issued";

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A folder of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

/// When the files were last changed: another value after every change.
pub(crate) type Stamp = Vec<Option<(u64, i64, i64, u64)>>;

impl Folder {
    /// The folder at a path.
    pub(crate) fn at(path: PathBuf) -> Folder {
        Folder(path)
    }

    /// That of a data folder.
    pub(crate) fn of(data: &Path) -> Folder {
        Folder(data.join("keys"))
    }

    /// That of a data folder, if there are keys in it.
    pub(crate) fn found(data: &Path) -> Option<Folder> {
        let folder = Folder::of(data);
        folder.path(CA).exists().then_some(folder)
    }

    /// A file of it.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Itself.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Makes it, for its owner alone.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| Failure::failed(format!("cannot make {}: {error}", self.0.display())))?;
        // It may have been there, for the gossip key alone.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&self.0, own)
            .map_err(|error| Failure::failed(format!("cannot close {} to others: {error}", self.0.display())))
    }

    /// Writes a file: complete or not at all, and for its owner alone.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(file);
        let staged = path.with_extension("new");
        let write = || {
            let mut out = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&staged)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&staged, &path)?;
            File::open(path.parent().unwrap_or(&self.0))?.sync_all()
        };
        write().map_err(|error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display())))
    }

    /// Takes a file away.
    pub(crate) fn remove(&self, file: &str) -> Result<(), Failure> {
        let path = self.path(file);
        std::fs::remove_file(&path)
            .map_err(|error| Failure::failed(format!("cannot remove {}: {error}", path.display())))
    }

    /// Keeps a copy of what was signed.
    pub(crate) fn keep(&self, serial: &str, certificate: &str) -> Result<(), Failure> {
        let kept = Folder(self.path(ISSUED));
        kept.create()?;
        kept.write(&format!("{serial}.pem"), certificate)
    }

    /// The files of all that was signed here.
    pub(crate) fn issued(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path(ISSUED)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "pem")).collect();
        paths.sort();
        paths
    }

    /// A file's text, if it is there.
    pub(crate) fn read_if_there(&self, file: &str) -> Result<Option<String>, Failure> {
        let path = self.path(file);
        let refuse = |error: std::io::Error| Failure::failed(format!("cannot read {}: {error}", path.display()));
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                Err(Failure::failed(format!("{} is too large to be a key", path.display())))
            }
            Ok(_) => std::fs::read_to_string(&path).map(Some).map_err(refuse),
        }
    }

    /// What a client of this node shows and believes.
    pub(crate) fn tls(&self) -> Tls {
        let own = (self.path(NODE).exists(), self.path(NODE), self.path(NODE_KEY));
        let (cert, key) = if own.0 { (Some(own.1), Some(own.2)) } else { (None, None) };
        Tls { ca: Some(self.path(CA)), cert, key }
    }

    /// What this node's doors show and believe.
    pub(crate) fn material(&self) -> Result<Material, Failure> {
        let refuse = |file: &str, why: &dyn std::fmt::Display| {
            let hint =
                "`regrow key ls` shows what is there; `regrow key rotate node` makes it anew where the CA's key is";
            Failure::new(Code::Failed, format!("cannot use {}: {why}\n  {hint}", self.path(file).display()))
        };
        let chain = certificates(&self.path(NODE))?;
        let key = PrivateKeyDer::from_pem_file(self.path(NODE_KEY)).map_err(|error| refuse(NODE_KEY, &error))?;
        let authorities = certificates(&self.path(CA))?;
        if chain.is_empty() || authorities.is_empty() {
            let empty = if chain.is_empty() { NODE } else { CA };
            return Err(refuse(empty, &"there is no certificate in it"));
        }
        let revoked = if self.path(CRL).exists() {
            CertificateRevocationListDer::pem_file_iter(self.path(CRL))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| refuse(CRL, &error))?
        } else {
            Vec::new()
        };
        Material::new(chain, key, authorities, revoked).map_err(|error| refuse(NODE, &error))
    }

    /// When the files that an agent uses were changed.
    pub(crate) fn stamp(&self) -> Stamp {
        let of = |file: &&str| {
            let found = std::fs::metadata(self.path(file)).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        };
        [CA, NODE, NODE_KEY, CRL, GOSSIP].iter().map(of).collect()
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES], Failure> {
    let mut bytes = [0; BYTES];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(read) if read == BYTES => Ok(bytes),
        Ok(_) => Err(Failure::failed("the system gave too little entropy")),
        Err(error) => Err(Failure::failed(format!("the system gave no entropy: {error}"))),
    }
}

/// A fresh token: 256 bits.
pub(crate) fn token() -> Result<String, Failure> {
    use base64::Engine as _;
    Ok(format!("rgw_{}", base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(random::<32>()?)))
}
