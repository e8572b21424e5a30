use super::Target;
use crate::config::{data_folder, node_name};
use crate::exit::{Code, Failure, print, say};
use crate::keys::{self, Authority, Folder, Wanted, day};
use base64::Engine as _;
use clap::Args;

/// Make the keys of a cluster: its certificate authority, this node's certificate, the gossip key, an admin's token
///
/// They go to keys/ in the data folder. An agent that finds them speaks TLS and
/// asks for credentials; then its doors may listen beyond loopback. Run it once,
/// on one machine; `regrow key node` makes the keys of the others.
///
/// Examples:
///   regrow init --data /var/lib/regrow --address 10.0.0.11
///   regrow init --node web-1 --address 10.0.0.11 --address web-1.example.net
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Init {
    /// This node's name. Default: the host's name
    #[arg(long, env = "REGROW_NODE", value_name = "NAME")]
    node: Option<String>,
    /// An address or a DNS name that others reach this node by; may be given again
    #[arg(long, value_name = "IP|DNS")]
    address: Vec<String>,
    /// Days that the node's certificate is good for
    #[arg(long, value_name = "N", default_value_t = super::key::DAYS, value_parser = super::key::days())]
    days: u32,
}

impl Init {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        let data = data_folder(target.data.as_deref(), true);
        let node = node_name(self.node.as_deref())?;
        let names = keys::names(node.as_str(), &self.address)?;
        let folder = Folder::of(&data);
        refuse_what_is_there(&folder)?;
        let (authority, own) = Authority::create()?;
        let signed = authority.sign(&Wanted { subject: node.to_string(), role: None, names, days: self.days })?;
        folder.create()?;
        if !folder.path(keys::GOSSIP).exists() {
            let key = base64::prelude::BASE64_STANDARD.encode(keys::random::<32>()?);
            folder.write(keys::GOSSIP, &format!("{key}\n"))?;
        }
        folder.write(keys::CA_KEY, &own.key)?;
        folder.write(keys::NODE_KEY, &signed.key)?;
        folder.write(keys::NODE, &signed.certificate)?;
        folder.keep(&signed.facts.serial, &signed.certificate)?;
        folder.write(keys::CRL, &authority.revoke(&[], 1)?)?;
        folder.write(keys::ADMIN_TOKEN, &format!("{}\n", keys::token()?))?;
        // The last: from now on agents ask for credentials.
        folder.write(keys::CA, &own.certificate)?;
        let reached = signed.facts.names.join(", ");
        print(&format!(
            "{}\n  \
             ca.pem       the certificate authority, good until {}: give it to whoever connects\n  \
             ca.key       its key: whoever has it can sign for anybody; keep a copy off this machine\n  \
             node.pem     the certificate of {node}, good until {}, for {reached}\n  \
             node.key     its key\n  \
             gossip.key   seals gossip, the same on all nodes\n  \
             admin.token  a token of the role admin\n",
            folder.as_path().display(),
            day(own.facts.until),
            day(signed.facts.until),
        ))?;
        if self.address.is_empty() {
            say("No --address was given: others cannot verify this node, only this machine can.");
        }
        let data = data.display();
        say(format!(
            "Next:\n  \
             regrow agent --data {data} --node {node} --etcd 0.0.0.0:2379 --http 0.0.0.0:8500 --gossip 0.0.0.0:7946\n  \
             regrow key node NAME --address IP --data {data}      for each other machine\n  \
             regrow key client NAME --role operator --data {data}  for people and programs"
        ));
        Ok(())
    }
}

/// Nothing is overwritten, except that a gossip key that is there is taken.
fn refuse_what_is_there(folder: &Folder) -> Result<(), Failure> {
    let made = [keys::CA, keys::CA_KEY, keys::CA_OLD_KEY, keys::NODE, keys::NODE_KEY, keys::CRL, keys::ADMIN_TOKEN];
    let Some(found) = made.into_iter().map(|file| folder.path(file)).find(|path| path.exists()) else { return Ok(()) };
    let hint = if folder.path(keys::CA).exists() {
        "`regrow key ls` shows them and `regrow key rotate` makes them anew; another cluster needs another --data"
    } else {
        "they are not complete, as after an `init` that was broken off: move the folder away and run this again"
    };
    Err(Failure::new(Code::Refused, format!("there are keys already: {}\n  {hint}", found.display())))
}
