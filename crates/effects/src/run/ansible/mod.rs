//! Playbooks, roles and single modules, by the system's `ansible-playbook`.
//!
//! What Regrow makes for a try lies in the try's folder: the playbook for roles and modules, the inventory from the catalog,
//! the variables, and a callback plugin that tells what happens. The folders that Ansible looks for beside a playbook lead
//! to those of the order's root.

mod events;
mod files;
mod yaml;

use super::process::{self, Ended, Program};
use super::{Came, Try, failed_hosts, folder};
use crate::error::io_error;
use events::Events;
use regrow_model::observed::WorldError;
use regrow_model::run::{AnsibleTask, Inventory, Play};
use std::collections::BTreeMap;
use std::path::Path;

/// The plugin, as it comes into the try's folder.
const PLUGIN: &str = include_str!("regrow_events.py");

/// What Ansible looks for beside a playbook or an inventory.
const BESIDE: [&str; 16] = [
    "roles",
    "library",
    "module_utils",
    "group_vars",
    "host_vars",
    "files",
    "templates",
    "vars",
    "tasks",
    "collections",
    "action_plugins",
    "filter_plugins",
    "lookup_plugins",
    "test_plugins",
    "connection_plugins",
    "strategy_plugins",
];

/// Variables of the worker's own environment that Ansible and `ssh` go by.
const PASSED: [&str; 5] = ["SSH_AUTH_SOCK", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "VIRTUAL_ENV"];

impl Try<'_> {
    pub(super) async fn ansible(&self, task: &AnsibleTask) -> Came {
        let command = match self.prepare(task) {
            Ok(command) => command,
            Err(error) => return Came::refused(error.text),
        };
        // Nobody who writes lines can know it, so nobody can tell of what did not happen.
        let mark = format!("\u{1e}{:016x} ", random());
        let mut events = Events::new(mark.clone(), self.sink);
        let mut environment = self.environment();
        // Ansible wants UTF-8 and says nothing else without it.
        let locale = |text: &String| text.to_lowercase().replace('-', "").contains("utf8");
        if !environment.get("LANG").is_some_and(locale) {
            environment.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        }
        for (name, value) in std::env::vars() {
            if PASSED.contains(&name.as_str()) || name.starts_with("ANSIBLE_") {
                environment.insert(name, value);
            }
        }
        let own = self.folder.join("callbacks").display().to_string();
        let callbacks = environment.get("ANSIBLE_CALLBACK_PLUGINS").map_or(own.clone(), |more| format!("{own}:{more}"));
        environment.insert("ANSIBLE_CALLBACK_PLUGINS".to_owned(), callbacks);
        if let Play::Module { .. } = &task.play {
            // What a module said is what is wanted of it, as `ansible` itself shows it.
            environment.insert("ANSIBLE_STDOUT_CALLBACK".to_owned(), "minimal".to_owned());
        }
        environment.insert("ANSIBLE_LOCAL_TEMP".to_owned(), self.folder.join("tmp").display().to_string());
        environment.insert("REGROW_EVENTS".to_owned(), mark);
        environment.extend(self.secrets.clone());
        let program = Program {
            command,
            directory: Path::new(&self.run.order.root),
            environment,
            memory_mib: self.run.order.memory_mib,
            grace: self.run.order.grace.0,
        };
        let mut tell = |line: &str| events.line(line);
        let ended = process::run(&self.runs.program, program, self.reins.clone(), self.sink, &mut tell).await;
        let recap = events.recap();
        // Ansible takes it for success when its patterns match nobody.
        let nobody = recap.is_empty().then(|| "no host of the inventory was worked on".to_owned());
        let why = failed_hosts(&recap).or(nobody.filter(|_| matches!(ended, Ended::Exited { code: 0, .. })));
        Came { ended, recap, status: None, why }
    }

    /// Writes what the try needs, and gives the command.
    fn prepare(&self, task: &AnsibleTask) -> Result<Vec<String>, WorldError> {
        let root = Path::new(&self.run.order.root);
        for name in BESIDE {
            let target = root.join(name);
            if target.exists() {
                std::os::unix::fs::symlink(&target, self.folder.join(name))
                    .map_err(|source| io_error(format!("cannot lead to {}", target.display()), &source))?;
            }
        }
        let callbacks = self.folder.join("callbacks");
        folder::make(&callbacks)?;
        folder::write(&callbacks.join("regrow_events.py"), PLUGIN)?;
        let mut command = vec!["ansible-playbook".to_owned()];
        let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
        let inventory = match &task.inventory {
            Inventory::File(path) => self.path(path),
            Inventory::Catalog { hosts, groups } => {
                let path = self.folder.join("hosts.yaml");
                folder::write(&path, &files::inventory(hosts, groups))?;
                path
            }
        };
        option("--inventory", inventory.display().to_string());
        // The comma at the end keeps Ansible from taking a colon in a name for a list of patterns.
        let list = |names: &[String]| format!("{},", names.join(","));
        if !task.limit.is_empty() {
            option("--limit", list(&task.limit));
        }
        if !task.tags.is_empty() {
            option("--tags", task.tags.join(","));
        }
        if !task.skip_tags.is_empty() {
            option("--skip-tags", task.skip_tags.join(","));
        }
        let vars = self.folder.join("vars.yaml");
        folder::write(&vars, &files::vars(&task.vars, &self.run.order.answers, self.secrets))?;
        option("--extra-vars", format!("@{}", vars.display()));
        if let Some(name) = &task.vault {
            let path = self.folder.join("vault");
            folder::write(&path, self.secrets.get(name).map_or("", String::as_str))?;
            option("--vault-password-file", path.display().to_string());
        }
        if let Some(user) = &task.user {
            option("--user", user.clone());
        }
        if let Some(forks) = task.forks {
            option("--forks", forks.to_string());
        }
        let flags = [("--become", task.r#become), ("--check", task.check), ("--diff", task.diff)];
        command.extend(flags.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.to_owned()));
        let play = self.folder.join("play.yaml");
        let playbook = match &task.play {
            Play::Playbook(path) => self.path(path),
            Play::Roles(roles) => {
                folder::write(&play, &files::roles(roles))?;
                play
            }
            Play::Module { name, args } => {
                folder::write(&play, &files::module(name, args))?;
                play
            }
        };
        command.extend(["--".to_owned(), playbook.display().to_string()]);
        Ok(command)
    }
}

/// The standard library seeds its hash maps from the system's randomness.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Counts by host.
type Recaps = BTreeMap<String, regrow_model::run::Recap>;
