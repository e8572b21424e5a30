//! The hosts and groups of an Ansible inventory: its INI form, and the JSON that dynamic inventories print.
//!
//! Source: Ansible, "How to build your inventory" and "Patterns: targeting hosts and groups".

use super::Target;
use super::hosts::{self, HostsError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Levels of groups in groups.
const DEPTH_MAX: usize = 32;

/// Why an inventory or a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// A line makes no sense.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Not the JSON of an inventory.
    #[error("not the JSON of a dynamic inventory: {0}")]
    Json(String),
    /// A pattern names nothing that is there.
    #[error("`{0}` is neither a host nor a group of the inventory")]
    Unknown(String),
    /// Groups contain each other.
    #[error("group `{0}` contains itself, or groups are nested more than {DEPTH_MAX} deep")]
    Nested(String),
}

/// What an inventory says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    hosts: BTreeMap<String, BTreeMap<String, String>>,
    groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    vars: BTreeMap<String, String>,
}

impl Inventory {
    /// Reads either form; JSON begins with a brace.
    ///
    /// # Errors
    /// With the line, or what is wrong in the JSON.
    pub fn parse(text: &str) -> Result<Inventory, InventoryError> {
        if text.trim_start().starts_with('{') { Inventory::parse_json(text) } else { Inventory::parse_ini(text) }
    }

    fn parse_json(text: &str) -> Result<Inventory, InventoryError> {
        let wrong = |what: String| InventoryError::Json(what);
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let sections = value.as_object().ok_or_else(|| wrong("it is not an object".to_owned()))?;
        let mut inventory = Inventory::default();
        for (name, section) in sections {
            if name == "_meta" {
                let hosts = section.get("hostvars").and_then(Value::as_object);
                for (host, vars) in hosts.into_iter().flatten() {
                    inventory.add(host).map_err(|error| wrong(error.to_string()))?.append(&mut variables(vars));
                }
                continue;
            }
            let group = inventory.groups.entry(name.clone()).or_default();
            group.vars = section.get("vars").map(variables).unwrap_or_default();
            group.children.extend(words(section.get("children")));
            // A list of hosts alone is the old form of a group.
            let members = words(section.get("hosts").or_else(|| section.is_array().then_some(section)));
            for host in members {
                inventory.add(&host).map_err(|error| wrong(error.to_string()))?;
                inventory.groups.entry(name.clone()).or_default().hosts.insert(host);
            }
        }
        Ok(inventory)
    }

    fn parse_ini(text: &str) -> Result<Inventory, InventoryError> {
        let mut inventory = Inventory::default();
        let (mut group, mut kind) = ("ungrouped".to_owned(), String::new());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what: String| InventoryError::Line { line: number + 1, what };
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default();
                let (name, what) = section.split_once(':').unwrap_or((section, ""));
                if name.is_empty() || !["", "children", "vars"].contains(&what) {
                    return Err(wrong(format!("[{section}] is neither [group], [group:children] nor [group:vars]")));
                }
                (group, kind) = (name.to_owned(), what.to_owned());
                inventory.groups.entry(group.clone()).or_default();
                continue;
            }
            let of = inventory.groups.entry(group.clone()).or_default();
            match kind.as_str() {
                "children" => drop(of.children.insert(line.to_owned())),
                "vars" => {
                    let (name, value) = line.split_once('=').ok_or_else(|| wrong("it is no name=value".to_owned()))?;
                    of.vars.insert(name.trim().to_owned(), unquoted(value.trim()));
                }
                _ => {
                    let mut parts = line.split_whitespace().take_while(|word| !word.starts_with('#'));
                    let term = parts.next().unwrap_or_default();
                    let vars: BTreeMap<String, String> = parts
                        .filter_map(|part| part.split_once('='))
                        .map(|(name, value)| (name.to_owned(), unquoted(value)))
                        .collect();
                    for host in hosts::expand(term).map_err(|error| wrong(error.to_string()))? {
                        inventory.add(&host).map_err(|error| wrong(error.to_string()))?.extend(vars.clone());
                        inventory.groups.entry(group.clone()).or_default().hosts.insert(host);
                    }
                }
            }
        }
        Ok(inventory)
    }

    fn add(&mut self, host: &str) -> Result<&mut BTreeMap<String, String>, HostsError> {
        if !hosts::is_host(host) {
            return Err(HostsError::Name(host.to_owned()));
        }
        if self.hosts.len() >= hosts::HOSTS_MAX && !self.hosts.contains_key(host) {
            return Err(HostsError::TooMany(host.to_owned()));
        }
        Ok(self.hosts.entry(host.to_owned()).or_default())
    }

    /// The hosts that a pattern means, in order of their names: `web`, `web:db`, `web,!web3`, `web:&prod`, `web*`, `all`.
    ///
    /// # Errors
    /// When a part of it names nothing, or groups contain each other.
    pub fn select(&self, pattern: &str) -> Result<Vec<Target>, InventoryError> {
        let parts: Vec<&str> = pattern.split([',', ':']).map(str::trim).filter(|part| !part.is_empty()).collect();
        let mut chosen = BTreeSet::new();
        for part in parts.iter().filter(|part| !part.starts_with(['!', '&'])) {
            chosen.append(&mut self.named(part)?);
        }
        for part in &parts {
            if let Some(name) = part.strip_prefix('&') {
                let both = self.named(name)?;
                chosen.retain(|host| both.contains(host));
            }
        }
        for part in &parts {
            if let Some(name) = part.strip_prefix('!') {
                let without = self.named(name)?;
                chosen.retain(|host| !without.contains(host));
            }
        }
        let groups = self.ranked()?;
        chosen.into_iter().map(|host| self.target(&host, &groups)).collect()
    }

    /// The groups with all their members, the widest first: the narrower one's variables win.
    fn ranked(&self) -> Result<Vec<(BTreeSet<String>, &Group)>, InventoryError> {
        let mut groups = Vec::new();
        for (name, group) in &self.groups {
            let mut members = BTreeSet::new();
            self.members(name, 0, &mut members)?;
            if name == "all" {
                members = self.hosts.keys().cloned().collect();
            }
            groups.push((members, group));
        }
        groups.sort_by_key(|(members, _)| std::cmp::Reverse(members.len()));
        Ok(groups)
    }

    fn named(&self, name: &str) -> Result<BTreeSet<String>, InventoryError> {
        if name == "all" || name == "*" {
            return Ok(self.hosts.keys().cloned().collect());
        }
        let mut found = BTreeSet::new();
        let mut any = false;
        for group in self.groups.keys().filter(|group| matches(name, group)) {
            any = true;
            self.members(group, 0, &mut found)?;
        }
        let hosts: Vec<&String> = self.hosts.keys().filter(|host| matches(name, host)).collect();
        any |= !hosts.is_empty();
        found.extend(hosts.into_iter().cloned());
        if any { Ok(found) } else { Err(InventoryError::Unknown(name.to_owned())) }
    }

    fn members(&self, group: &str, depth: usize, found: &mut BTreeSet<String>) -> Result<(), InventoryError> {
        if depth > DEPTH_MAX {
            return Err(InventoryError::Nested(group.to_owned()));
        }
        let Some(of) = self.groups.get(group) else { return Ok(()) };
        found.extend(of.hosts.iter().cloned());
        of.children.iter().try_for_each(|child| self.members(child, depth + 1, found))
    }

    /// A host with the variables that concern `ssh`: its own over its groups', a child's over its parent's.
    fn target(&self, host: &str, groups: &[(BTreeSet<String>, &Group)]) -> Result<Target, InventoryError> {
        let mut vars = BTreeMap::new();
        for (_, group) in groups.iter().filter(|(members, _)| members.contains(host)) {
            vars.extend(group.vars.clone());
        }
        vars.extend(self.hosts.get(host).cloned().unwrap_or_default());
        let take = |names: [&str; 2]| names.iter().find_map(|name| vars.get(*name)).cloned();
        let written = Target::of(host).unwrap_or_default();
        let address = take(["ansible_host", "ansible_ssh_host"]);
        if let Some(address) = address.as_ref().filter(|address| !hosts::is_host(address)) {
            return Err(InventoryError::Unknown(address.clone()));
        }
        let user = take(["ansible_user", "ansible_ssh_user"]).or(written.user);
        if let Some(user) = user.as_ref().filter(|user| !hosts::is_host(&format!("{user}@x"))) {
            return Err(InventoryError::Unknown(user.clone()));
        }
        Ok(Target {
            address,
            user,
            port: take(["ansible_port", "ansible_ssh_port"]).and_then(|port| port.parse().ok()).or(written.port),
            identity: take(["ansible_ssh_private_key_file", "ansible_private_key_file"]),
            name: written.name,
        })
    }
}

/// Whether a name is meant by a pattern with `*` in it.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = &rest[at + before.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

fn unquoted(value: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(value).to_owned()
}

fn words(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn variables(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INI: &str = "\
bastion.shop ansible_port=2200  # the way in
[web]
web[1-3].shop ansible_user=deploy
[db]
db1 ansible_host=10.0.0.7
[prod:children]
web
db
[prod:vars]
ansible_user = ops
ansible_ssh_private_key_file = \"/etc/keys/prod\"
";

    fn names(inventory: &Inventory, pattern: &str) -> String {
        let chosen = inventory.select(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        chosen.into_iter().map(|target| target.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn patterns_select_as_with_ansible() {
        let inventory = Inventory::parse(INI).unwrap();
        assert_eq!(names(&inventory, "web"), "web1.shop web2.shop web3.shop");
        assert_eq!(names(&inventory, "prod:!web2.shop"), "db1 web1.shop web3.shop");
        assert_eq!(names(&inventory, "all:&web"), "web1.shop web2.shop web3.shop");
        assert_eq!(names(&inventory, "w*b,!*2*"), "web1.shop web3.shop");
        assert_eq!(names(&inventory, "bastion.shop,db"), "bastion.shop db1");
        assert_eq!(inventory.select("wbe"), Err(InventoryError::Unknown("wbe".into())));
    }

    #[test]
    fn variables_of_a_host_win_over_its_groups() {
        let inventory = Inventory::parse(INI).unwrap();
        let web = inventory.select("web1.shop").unwrap().remove(0);
        assert_eq!((web.user.as_deref(), web.identity.as_deref()), (Some("deploy"), Some("/etc/keys/prod")));
        let db = inventory.select("db").unwrap().remove(0);
        assert_eq!((db.user.as_deref(), db.address.as_deref(), db.port), (Some("ops"), Some("10.0.0.7"), None));
        assert_eq!(inventory.select("bastion.shop").unwrap()[0].port, Some(2200));
    }

    #[test]
    fn json_of_dynamic_inventories_is_read() {
        let text = r#"{"_meta": {"hostvars": {"a": {"ansible_port": 2201}}}, "web": {"hosts": ["a", "b"],
                       "vars": {"ansible_user": "x"}}, "old": ["c"], "top": {"children": ["web"]}}"#;
        let inventory = Inventory::parse(text).unwrap();
        assert_eq!(names(&inventory, "top,old"), "a b c");
        let a = inventory.select("a").unwrap().remove(0);
        assert_eq!((a.port, a.user.as_deref()), (Some(2201), Some("x")));
    }

    /// Shows that what is hostile or circular is refused by name.
    #[test]
    fn bad_inventories_are_refused() {
        let error = |text: &str| Inventory::parse(text).unwrap_err().to_string();
        assert!(error("[web]\n-oProxyCommand=x").starts_with("line 2: `-oProxyCommand=x` is not a host"));
        assert!(error("[web:nonsense]").starts_with("line 1: [web:nonsense] is neither"));
        assert!(error("[web:vars]\nnothing").starts_with("line 2: it is no name=value"));
        assert!(error("{\"_meta\": {\"hostvars\": {\"a b\": {}}}}").contains("`a b` is not a host"));
        assert!(error("{").contains("not the JSON"));
        let circle = Inventory::parse("[a:children]\nb\n[b:children]\na\n").unwrap();
        assert!(matches!(circle.select("a"), Err(InventoryError::Nested(_))));
        let hostile = Inventory::parse("x ansible_host=-oProxyCommand=id\n").unwrap();
        assert!(hostile.select("x").is_err());
    }
}
