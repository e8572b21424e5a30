use super::super::Target;
use super::{DAYS, days};
use crate::exit::{Code, Failure, print, say};
use crate::keys::{self, Authority, Folder, Role, Signed, Wanted, day};
use clap::Args;
use regrow_model::Name;
use std::path::PathBuf;

/// Make the keys of another node, in a folder to be copied to its data folder
///
/// The folder has the authority's certificate, the node's certificate and key,
/// what is revoked, and the gossip key; not the authority's key.
///
/// Examples:
///   regrow key node web-2 --address 10.0.0.12
///   scp -r web-2-keys root@10.0.0.12:/var/lib/regrow/keys
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Node {
    /// The node's name, as its agent's --node
    name: String,
    /// An address or a DNS name that others reach it by; may be given again
    #[arg(long, value_name = "IP|DNS", required = true)]
    address: Vec<String>,
    /// The folder to make. Default: NAME-keys
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Days that the certificate is good for
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = days())]
    days: u32,
}

/// Make a certificate for a person or a program, with a role, in a folder to be given to them
///
/// Clients that show it need no token. It says one of three roles; a token
/// can be narrowed to keys and kinds, and taken back more easily:
/// `regrow token create`.
///
/// Examples:
///   regrow key client ci --role operator
///   etcdctl --cacert ci-keys/ca.pem --cert ci-keys/client.pem --key ci-keys/client.key get --prefix /
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Client {
    /// Who shows it: the name in the audit log
    name: String,
    /// What they may do
    #[arg(long, value_enum, default_value_t = Role::Reader)]
    role: Role,
    /// The folder to make. Default: NAME-keys
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Days that the certificate is good for
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = days())]
    days: u32,
}

impl Node {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        let name = Name::new(&self.name).map_err(|error| Failure::usage(format!("`{}`: {error}", self.name)))?;
        let names = keys::names(name.as_str(), &self.address)?;
        let out = out(self.out, &self.name)?;
        let folder = super::folder(target)?;
        let wanted = Wanted { subject: self.name.clone(), role: None, names, days: self.days };
        let signed = Authority::open(&folder)?.sign(&wanted)?;
        hand_out(&folder, &out, &signed, (keys::NODE, keys::NODE_KEY), &[keys::GOSSIP])?;
        let Wanted { subject, names, .. } = wanted;
        print(&format!(
            "{}\n  ca.pem, ca.crl      whom to believe\n  node.pem, node.key  the certificate of {subject}, serial {}, \
             good until {}, for {}\n  gossip.key          seals gossip\n",
            out.as_path().display(),
            signed.facts.serial,
            day(signed.facts.until),
            names.join(", "),
        ))?;
        let to = &self.address[0];
        say(format!(
            "Next:\n  scp -r {0} root@{to}:/var/lib/regrow/keys && rm -r {0}\n  there: regrow agent --data \
             /var/lib/regrow --node {1} --store https://THIS-NODE:2379 --gossip 0.0.0.0:7946 --join THIS-NODE",
            out.as_path().display(),
            self.name
        ));
        Ok(())
    }
}

impl Client {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c)) {
            let why = "write it with letters, digits and - _ . @";
            return Err(Failure::usage(format!("`{}` is no name of a client: {why}", self.name)));
        }
        let out = out(self.out, &self.name)?;
        let folder = super::folder(target)?;
        let wanted = Wanted { subject: self.name, role: Some(self.role), names: Vec::new(), days: self.days };
        let signed = Authority::open(&folder)?.sign(&wanted)?;
        hand_out(&folder, &out, &signed, (keys::CLIENT, keys::CLIENT_KEY), &[])?;
        let path = out.as_path().display();
        print(&format!(
            "{path}\n  ca.pem, ca.crl          whom to believe\n  client.pem, client.key  the certificate of {}, role {}, \
             serial {}, good until {}\n",
            wanted.subject,
            self.role.as_str(),
            signed.facts.serial,
            day(signed.facts.until),
        ))?;
        let client = format!("--cert {path}/client.pem --key {path}/client.key");
        say(format!(
            "Next:\n  etcdctl --cacert {path}/ca.pem {client} --endpoints https://NODE:2379 get --prefix /\n  \
             curl --cacert {path}/ca.pem {client} https://NODE:8500/api/status"
        ));
        Ok(())
    }
}

/// The folder to make; it must not be there.
fn out(given: Option<PathBuf>, name: &str) -> Result<Folder, Failure> {
    let path = given.unwrap_or_else(|| PathBuf::from(format!("{name}-keys")));
    if path.exists() {
        let hint = "name another with --out, or move it away";
        return Err(Failure::new(Code::Refused, format!("{} is there already\n  {hint}", path.display())));
    }
    Ok(Folder::at(path))
}

/// Writes what was signed to a folder, with what goes with it.
fn hand_out(from: &Folder, to: &Folder, signed: &Signed, own: (&str, &str), more: &[&str]) -> Result<(), Failure> {
    from.keep(&signed.facts.serial, &signed.certificate)?;
    to.create()?;
    for file in [keys::CRL].iter().chain(more) {
        if let Some(text) = from.read_if_there(file)? {
            to.write(file, &text)?;
        }
    }
    to.write(own.1, &signed.key)?;
    to.write(own.0, &signed.certificate)?;
    // The last: whatever finds it has the rest.
    match from.read_if_there(keys::CA)? {
        Some(text) => to.write(keys::CA, &text),
        None => Err(Failure::failed(format!("{} has gone meanwhile", from.path(keys::CA).display()))),
    }
}
