use super::super::Target;
use super::revoke::authorities;
use super::{DAYS, days};
use crate::exit::{Code, Failure, print, say};
use crate::keys::{self, Authority, Folder, Wanted, certificates, day, facts, pem, revoked_serials};
use clap::{Args, Subcommand};

/// Exchange this node's certificate, or the authority
///
/// Running agents take what is new within a second and keep their connections.
/// Gossip's key is exchanged by `regrow gossip keys`.
///
/// To exchange the authority without an interruption:
///   1. regrow key rotate ca             both are believed from now on
///   2. copy keys/ca.pem to keys/ of every node, and to clients
///   3. regrow key rotate node           here, and `regrow key node` for others
///   4. regrow key rotate ca --finish    the old one is believed no more;
///      copy keys/ca.pem again
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Rotate {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A new key and certificate for this node, for the same names
    Node {
        /// An address or a DNS name more; may be given again
        #[arg(long, value_name = "IP|DNS")]
        address: Vec<String>,
        /// Days that the certificate is good for
        #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = days())]
        days: u32,
    },
    /// A new authority; the old one is believed until --finish
    Ca {
        /// Believe the old one no more
        #[arg(long)]
        finish: bool,
    },
}

impl Rotate {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        let folder = super::folder(target)?;
        match self.what {
            What::Node { address, days } => node(&folder, &address, days),
            What::Ca { finish: false } => begin(&folder),
            What::Ca { finish: true } => finish(&folder),
        }
    }
}

fn node(folder: &Folder, more: &[String], days: u32) -> Result<(), Failure> {
    let authority = Authority::open(folder)?;
    let own = certificates(&folder.path(keys::NODE))?;
    let own = own
        .first()
        .ok_or_else(|| Failure::failed(format!("there is no certificate in {}", folder.path(keys::NODE).display())))?;
    let old = facts(own)?;
    let given: Vec<String> = old.names.iter().chain(more).cloned().collect();
    let names = keys::names(&old.subject, &given)?;
    let signed = authority.sign(&Wanted { subject: old.subject.clone(), role: None, names, days })?;
    folder.keep(&signed.facts.serial, &signed.certificate)?;
    // An agent that reads one of them without the other keeps what it has, and looks again.
    folder.write(keys::NODE_KEY, &signed.key)?;
    folder.write(keys::NODE, &signed.certificate)?;
    print(&format!(
        "{} has the certificate {}, good until {}\n",
        old.subject,
        signed.facts.serial,
        day(signed.facts.until)
    ))?;
    say(format!(
        "The one before stays good until {}; if its key has leaked: regrow key revoke {}",
        day(old.until),
        old.serial
    ));
    Ok(())
}

fn begin(folder: &Folder) -> Result<(), Failure> {
    let old = Authority::open(folder)?;
    if folder.path(keys::CA_OLD_KEY).exists() {
        let hint = "regrow key rotate ca --finish";
        return Err(Failure::new(Code::Refused, format!("the exchange before is not finished\n  {hint}")));
    }
    let old_key = folder.read_if_there(keys::CA_KEY)?.unwrap_or_default();
    let (new, own) = Authority::create()?;
    let (revoked, number) = revoked_serials(&folder.path(keys::CRL))?;
    let lists = [&new, &old].map(|authority| authority.revoke(&revoked, number + 1));
    let lists = lists.into_iter().collect::<Result<Vec<_>, _>>()?;
    // In this order: whatever is broken off, the key that is there has its certificate among those believed.
    folder.write(keys::CA, &(own.certificate + &pem("CERTIFICATE", old.certificate())))?;
    folder.write(keys::CA_OLD_KEY, &old_key)?;
    folder.write(keys::CA_KEY, &own.key)?;
    folder.write(keys::CRL, &lists.concat())?;
    print(&format!("{} signs from now on, good until {}\n", own.facts.subject, day(own.facts.until)))?;
    say(format!(
        "Next:\n  copy {} to keys/ of every other node, and to clients\n  regrow key rotate node, and `regrow key node` \
         and `regrow key client` for others\n  regrow key rotate ca --finish",
        folder.path(keys::CA).display()
    ));
    Ok(())
}

fn finish(folder: &Folder) -> Result<(), Failure> {
    let authority = Authority::open(folder)?;
    if !folder.path(keys::CA_OLD_KEY).exists() {
        let hint = "`regrow key rotate ca` begins it";
        return Err(Failure::new(Code::Refused, format!("no exchange of the authority is under way\n  {hint}")));
    }
    let own = certificates(&folder.path(keys::NODE))?.first().map(facts).transpose()?;
    let name = facts(authority.certificate())?;
    if own.is_some_and(|own| own.issuer != name.issuer) {
        let hint = "regrow key rotate node";
        let text = format!("this node still shows a certificate of the old authority\n  {hint}");
        return Err(Failure::new(Code::Refused, text));
    }
    let (revoked, number) = revoked_serials(&folder.path(keys::CRL))?;
    folder.write(keys::CA, &pem("CERTIFICATE", authority.certificate()))?;
    folder.remove(keys::CA_OLD_KEY)?;
    let lists =
        authorities(folder)?.iter().map(|one| one.revoke(&revoked, number + 1)).collect::<Result<Vec<_>, _>>()?;
    folder.write(keys::CRL, &lists.concat())?;
    print(&format!("{} alone is believed from now on\n", name.subject))?;
    say(format!("Next:\n  copy {} to keys/ of every other node, and to clients", folder.path(keys::CA).display()));
    Ok(())
}
