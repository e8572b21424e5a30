//! What Ansible is given: an inventory, variables, playbooks.

use super::yaml::{Trust, text, value};
use regrow_model::run::ModuleArgs;
use regrow_model::spec::survey::Answers;
use serde_json::Value;
use std::collections::BTreeMap;

/// The variable that holds a module's arguments.
const ARGS: &str = "regrow_args";

/// The catalog as an inventory.
pub(super) fn inventory(hosts: &BTreeMap<String, String>, groups: &BTreeMap<String, Vec<String>>) -> String {
    let mut out = String::from("all:\n  hosts:\n");
    for (name, address) in hosts {
        out.push_str(&format!("    {}: {{ansible_host: {}}}\n", text(name), text(address)));
    }
    if hosts.is_empty() {
        out.push_str("    {}\n");
    }
    out.push_str("  children:\n");
    for (name, members) in groups {
        let members: Vec<String> = members.iter().map(|member| format!("{}: {{}}", text(member))).collect();
        out.push_str(&format!("    {}: {{hosts: {{{}}}}}\n", text(name), members.join(", ")));
    }
    if groups.is_empty() {
        out.push_str("    {}\n");
    }
    out
}

/// The extra variables: the author's, which may be templates, and those that are data.
pub(super) fn vars(author: &BTreeMap<String, Value>, answers: &Answers, secrets: &BTreeMap<String, String>) -> String {
    let mut out = String::from("---\n");
    for (name, one) in author.iter().filter(|(name, _)| !answers.contains_key(*name)) {
        out.push_str(&format!("{}: {}\n", text(name), value(one, Trust::Author)));
    }
    for (name, one) in answers {
        out.push_str(&format!("{}: {}\n", text(name), value(one, Trust::Data)));
    }
    for (name, secret) in secrets {
        out.push_str(&format!("{}: {}\n", text(name), value(&Value::from(secret.as_str()), Trust::Data)));
    }
    if out.len() == 4 {
        out.push_str("{}\n");
    }
    out
}

/// A playbook that applies roles.
pub(super) fn roles(roles: &[String]) -> String {
    let listed: Vec<String> = roles.iter().map(|role| format!("    - {}\n", text(role))).collect();
    format!("- name: {}\n  hosts: all\n  roles:\n{}", text(&roles.join(", ")), listed.concat())
}

/// A playbook of one module. Its arguments are variables of the play, so that nothing in them is taken apart.
pub(super) fn module(name: &str, args: &ModuleArgs) -> String {
    let template = |of: &str| text(&format!("{{{{ {ARGS}{of} }}}}"));
    let (held, given) = match args {
        ModuleArgs::Command(command) => (value(&Value::from(command.as_str()), Trust::Data), template("")),
        ModuleArgs::Named(named) => {
            let held = Value::Object(named.iter().map(|(name, one)| (name.clone(), one.as_str().into())).collect());
            let given: Vec<String> =
                named.keys().map(|name| format!("{}: {}", text(name), template(&format!("['{name}']")))).collect();
            (value(&held, Trust::Data), format!("{{{}}}", given.join(", ")))
        }
    };
    let name = text(name);
    format!(
        "- name: {name}\n  hosts: all\n  gather_facts: false\n  vars:\n    {ARGS}: {held}\n  tasks:\n    - name: {name}\n      {name}: {given}\n"
    )
}
