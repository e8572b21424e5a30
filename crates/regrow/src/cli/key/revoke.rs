use super::super::Target;
use crate::exit::{Code, Failure, print};
use crate::keys::{self, Authority, Facts, Folder, certificates, facts, revoked_serials};
use clap::Args;

/// Revoke certificates by serial number or by name
///
/// Agents that have the new ca.crl refuse them at once and cut connections that
/// were made with them. This machine's agent reads it by itself; the others get
/// it from the store.
///
/// Examples:
///   regrow key revoke 4f5c1e0b…
///   regrow key revoke ci
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Revoke {
    /// A serial number as `regrow key ls` shows it, or the name of a node or client: all that it has
    #[arg(value_name = "SERIAL|NAME")]
    which: String,
}

impl Revoke {
    pub(super) fn run(self, target: &Target) -> Result<(), Failure> {
        let folder = super::folder(target)?;
        let authorities = authorities(&folder)?;
        let (mut serials, number) = revoked_serials(&folder.path(keys::CRL))?;
        let chosen = chosen(&folder, &self.which)?;
        let new: Vec<&Facts> = chosen.iter().filter(|facts| !serials.contains(&facts.raw_serial)).collect();
        if new.is_empty() {
            return print(&format!("{} is revoked already\n", self.which));
        }
        serials.extend(new.iter().map(|facts| facts.raw_serial.clone()));
        let lists = authorities.iter().map(|authority| authority.revoke(&serials, number + 1));
        folder.write(keys::CRL, &lists.collect::<Result<Vec<_>, _>>()?.concat())?;
        for facts in new {
            print(&format!("revoked {} of {}\n", facts.serial, facts.subject))?;
        }
        Ok(())
    }
}

/// All authorities whose keys are here: what one has signed is on the list of each, as serials are never the same.
pub(super) fn authorities(folder: &Folder) -> Result<Vec<Authority>, Failure> {
    let mut all = vec![Authority::open(folder)?];
    all.extend(Authority::of(folder, keys::CA_OLD_KEY)?);
    Ok(all)
}

fn chosen(folder: &Folder, which: &str) -> Result<Vec<Facts>, Failure> {
    let serial: String = which.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let mut found = Vec::new();
    for file in folder.issued() {
        for certificate in certificates(&file)? {
            let facts = facts(&certificate)?;
            if facts.serial == serial || facts.subject == which {
                found.push(facts);
            }
        }
    }
    if found.is_empty() {
        let hint = "`regrow key ls` lists them";
        return Err(Failure::new(Code::NotFound, format!("nothing was signed here as `{which}`\n  {hint}")));
    }
    let own = certificates(&folder.path(keys::NODE))?.first().map(facts).transpose()?;
    if let Some(own) = own.filter(|own| found.iter().any(|facts| facts.serial == own.serial)) {
        let hint = "make another first, `regrow key rotate node`, and then revoke this one by its serial";
        let text = format!("{} is what this node shows now: its own agents would refuse it\n  {hint}", own.serial);
        return Err(Failure::new(Code::Refused, text));
    }
    Ok(found)
}
