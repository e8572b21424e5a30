//! Which hosts are meant.

use crate::cli::Target as Agent;
use crate::exit::{Code, Failure};
use regrow_control::exec::Target;
use regrow_control::exec::hosts::{HOSTS_MAX, expand};
use regrow_control::exec::inventory::Inventory;
use regrow_control::status::Status;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Longest inventory that is read, in bytes.
const INVENTORY_BYTES_MAX: u64 = 64 << 20;

/// The hosts of all terms, each once, in their order; without those of terms that begin with `!`.
pub(super) async fn hosts(terms: &[String], inventory: Option<&Path>, agent: &Agent) -> Result<Vec<Target>, Failure> {
    if let Some(path) = inventory {
        let inventory = Inventory::parse(&read_inventory(path)?)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let chosen = inventory.select(&terms.join(",")).map_err(|error| Failure::new(Code::NotFound, error))?;
        return some(chosen, terms);
    }
    let mut status = None;
    let mut chosen: Vec<Target> = Vec::new();
    let mut left_out = BTreeSet::new();
    for term in terms.iter().flat_map(|terms| split(terms)) {
        let (out, term) = term.strip_prefix('!').map_or((false, term), |term| (true, term));
        let mut named = Vec::new();
        if let Some(path) = term.strip_prefix('@') {
            let text = read(Path::new(path))?;
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            for line in lines.filter(|line| !line.is_empty()) {
                named.extend(written(line)?);
            }
        } else if let Some((kind, name)) = term.split_once('/') {
            if status.is_none() {
                status = Some(agent.client()?.get::<Status>("/api/status").await?);
            }
            named.extend(of_agent(status.as_ref(), kind, name)?);
        } else {
            named.extend(written(term)?);
        }
        if chosen.len() + named.len() > HOSTS_MAX {
            return Err(Failure::usage(format!("more than {HOSTS_MAX} hosts")));
        }
        if out {
            left_out.extend(named.into_iter().map(|target| target.name));
        } else {
            chosen.extend(named);
        }
    }
    let mut seen = BTreeSet::new();
    chosen.retain(|target| !left_out.contains(&target.name) && seen.insert(target.clone()));
    some(chosen, terms)
}

fn some(chosen: Vec<Target>, terms: &[String]) -> Result<Vec<Target>, Failure> {
    if chosen.is_empty() {
        return Err(Failure::new(Code::NotFound, format!("`{}` leaves no host to run on", terms.join(" "))));
    }
    Ok(chosen)
}

/// Terms are separated by commas outside brackets.
fn split(terms: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let parts = terms.split(move |c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn written(term: &str) -> Result<Vec<Target>, Failure> {
    let hosts = expand(term).map_err(Failure::usage)?;
    hosts.iter().map(|host| Target::of(host).map_err(Failure::usage)).collect()
}

/// Hosts that the agent knows: where a service or a group runs, or a node.
fn of_agent(status: Option<&Status>, kind: &str, name: &str) -> Result<Vec<Target>, Failure> {
    let nodes = status.map(|status| &status.nodes);
    let addressed = |node: &str| -> Option<Target> {
        let found = nodes?.iter().find(|known| known.name.as_str() == node)?;
        Some(Target { name: node.to_owned(), address: Some(found.address.clone()), ..Target::default() })
    };
    let names: Vec<String> = match (kind, status) {
        ("node", Some(status)) => {
            let meant = status.nodes.iter().filter(|node| name == "all" || node.name.as_str() == name);
            meant.map(|node| node.name.to_string()).collect()
        }
        ("group", Some(status)) => {
            let meant = status.groups.iter().filter(|group| group.name.as_str() == name);
            meant.flat_map(|group| &group.instances).map(|instance| instance.node.to_string()).collect()
        }
        ("service", Some(status)) => {
            let meant = status.services.iter().filter(|service| service.name.as_str() == name);
            let meant: BTreeSet<_> = meant.flat_map(|service| &service.endpoints).map(|seen| &seen.instance).collect();
            let all = status.groups.iter().flat_map(|group| &group.instances);
            all.filter(|instance| meant.contains(&instance.id)).map(|instance| instance.node.to_string()).collect()
        }
        _ => {
            return Err(Failure::usage(format!(
                "`{kind}/{name}` is none of service/NAME, group/NAME, node/NAME, node/all"
            )));
        }
    };
    let targets: Vec<Target> = names.iter().filter_map(|node| addressed(node)).collect();
    if targets.is_empty() {
        return Err(Failure::new(
            Code::NotFound,
            format!("{kind}/{name} runs on no node: `regrow status` shows what does"),
        ));
    }
    Ok(targets)
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    if std::fs::metadata(path).map_err(cannot)?.len() > INVENTORY_BYTES_MAX {
        return Err(Failure::usage(format!("{} has more than {INVENTORY_BYTES_MAX} bytes", path.display())));
    }
    std::fs::read_to_string(path).map_err(cannot)
}

/// A file, or what a program prints for `--list`, as Ansible has it.
fn read_inventory(path: &Path) -> Result<String, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let is_program =
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if !is_program {
        return read(path);
    }
    let program = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let output = Command::new(&program)
        .arg("--list")
        .output()
        .map_err(|error| Failure::failed(format!("cannot run the inventory {}: {error}", path.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::failed(format!("the inventory {} ended with {}: {said}", path.display(), output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::failed(format!("the inventory {} printed something else than text", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_separated_outside_brackets() {
        assert_eq!(split("web[1-3,7], db1,,!x"), ["web[1-3,7]", "db1", "!x"]);
    }
}
