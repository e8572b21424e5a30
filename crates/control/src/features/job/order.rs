//! From a job and what a run is given to an order that a worker can carry out without asking anybody.

use super::expand::{Texts, json, percent};
use super::inventory;
use regrow_model::limits::{CONCURRENCY_KEYS_MAX, PRIORITY_MAX, RUN_BYTES_MAX};
use regrow_model::run::{
    AnsibleTask, ExecTask, HttpTask, Inventory, ModuleArgs, Order, Play, Slot, SshTask, StepTask, Task,
};
use regrow_model::spec::survey::{AnswerError, Answers, is_host, is_name};
use regrow_model::spec::{Adhoc, Ansible, Exec, Http, Ssh, Step, Target};
use regrow_model::{Name, Time, View, desired};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What somebody wants run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// Values of the job's parameters.
    pub parameters: BTreeMap<String, Value>,
    /// Another priority than the job's, 0 to 9.
    #[schemars(range(min = 0, max = PRIORITY_MAX))]
    pub priority: Option<u8>,
    /// Not before, milliseconds since the Unix epoch.
    pub at: Option<Time>,
    /// Not before so many seconds from now.
    pub delay_seconds: Option<u64>,
    /// Latest time to start, milliseconds since the Unix epoch.
    pub deadline: Option<Time>,
    /// Only these hosts of those that the job works on; a rerun on failed hosts names them.
    pub limit: Vec<String>,
    /// A word of the caller's own: a second wish with it, while the first is known, is the first.
    pub key: Option<String>,
}

/// Why an order is refused. Nothing was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such job; the caller's fault.
    #[error("there is no job `{0}`: `regrow job ls` lists them")]
    NoJob(Name),
    /// A parameter.
    #[error("{}", told(.0))]
    Answers(Vec<AnswerError>),
    /// A value would have become an option of a program.
    #[error("the value for {word} begins with a dash, and would be read as an option")]
    Option {
        /// The word as the job has it.
        word: String,
    },
    /// A value is not what its place takes.
    #[error("{place} cannot be {found}: it takes {wanted}")]
    Place {
        /// Where.
        place: &'static str,
        /// What came, cut and in quotes.
        found: String,
        /// What fits.
        wanted: &'static str,
    },
    /// A text of the job cannot be made.
    #[error("{0}")]
    Text(String),
    /// Beyond what a record may hold.
    #[error("the run would have {bytes} bytes, and {max} are allowed: pass large data by a file")]
    Large {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

fn told(errors: &[AnswerError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes the order of a run. `by`: who asks, for people.
pub fn order(view: &View, name: &Name, wish: &Wish, by: &str, now: Time) -> Result<Order, OrderError> {
    let job = view.jobs.get(name).ok_or_else(|| OrderError::NoJob(name.clone()))?;
    let desired::Job { spec, root, .. } = &**job;
    let answers = spec.answers(&wish.parameters).map_err(OrderError::Answers)?;
    let maker = Maker { view, texts: Texts::of(&answers), answers: &answers, limit: &wish.limit };
    let verbs = (&spec.exec, &spec.ansible, &spec.adhoc, &spec.ssh, &spec.http);
    let task = match maker.verb(verbs)? {
        Some(task) => task,
        None => Task::Steps(maker.steps(spec.steps.as_deref().unwrap_or_default())?),
    };
    if wish.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        let found = wish.priority.unwrap_or_default().to_string();
        return Err(OrderError::Place { place: "the priority", found, wanted: "0 to 9" });
    }
    let due = due(wish, now);
    let within = spec.start_within.map(|within| due.after(within.0));
    let order = Order {
        job: name.clone(),
        by: by.to_owned(),
        hosts: hosts(&task),
        slots: maker.slots(name, spec.concurrency.runs, &spec.concurrency.keys)?,
        task,
        root: root.clone(),
        secrets: spec.secrets.clone(),
        priority: wish.priority.unwrap_or(spec.priority),
        labels: spec.labels.clone(),
        timeout: spec.timeout,
        grace: spec.grace,
        retention: spec.retention,
        deadline: [within, wish.deadline].into_iter().flatten().min(),
        retry: spec.retry.clone(),
        on_loss: spec.on_loss,
        down: spec.down,
        output_mib: spec.output_mib,
        memory_mib: spec.memory_mib,
        answers,
    };
    let bytes = serde_json::to_vec(&order).expect("model types always serialise").len();
    if bytes > RUN_BYTES_MAX {
        return Err(OrderError::Large { bytes, max: RUN_BYTES_MAX });
    }
    Ok(order)
}

/// When a wish may start.
pub fn due(wish: &Wish, now: Time) -> Time {
    let delayed = now.after(Duration::from_secs(wish.delay_seconds.unwrap_or(0)));
    wish.at.unwrap_or(Time(0)).max(delayed)
}

type Verbs<'a> = (&'a Option<Exec>, &'a Option<Ansible>, &'a Option<Adhoc>, &'a Option<Ssh>, &'a Option<Http>);

struct Maker<'a> {
    view: &'a View,
    texts: Texts<'a>,
    answers: &'a Answers,
    limit: &'a [String],
}

impl Maker<'_> {
    fn verb(&self, verbs: Verbs<'_>) -> Result<Option<Task>, OrderError> {
        Ok(match verbs {
            (Some(exec), ..) => Some(self.exec(exec)?),
            (_, Some(ansible), ..) => Some(self.ansible(ansible)?),
            (_, _, Some(adhoc), ..) => Some(self.adhoc(adhoc)?),
            (_, _, _, Some(ssh), _) => Some(self.ssh(ssh)?),
            (_, _, _, _, Some(http)) => Some(self.http(http)?),
            (None, None, None, None, None) => None,
        })
    }

    fn exec(&self, exec: &Exec) -> Result<Task, OrderError> {
        let mut environment = BTreeMap::new();
        for (name, value) in &exec.environment {
            environment.insert(name.clone(), self.texts.text(value)?);
        }
        let command = self.texts.words(&exec.command)?;
        Ok(Task::Exec(ExecTask { command, directory: exec.directory.clone(), environment }))
    }

    fn ansible(&self, ansible: &Ansible) -> Result<Task, OrderError> {
        let play = match &ansible.playbook {
            Some(playbook) => Play::Playbook(self.path("the playbook", playbook)?),
            None => Play::Roles(self.names("a role", &ansible.roles)?),
        };
        let mut task = self.target(&ansible.target, play)?;
        task.tags = self.names("a tag", &ansible.tags)?;
        task.skip_tags = self.names("a tag", &ansible.skip_tags)?;
        task.vars = ansible.vars.clone();
        task.vault = ansible.vault.clone();
        task.check = ansible.check;
        task.diff = ansible.diff;
        Ok(Task::Ansible(Box::new(task)))
    }

    fn adhoc(&self, adhoc: &Adhoc) -> Result<Task, OrderError> {
        let name = self.texts.text(&adhoc.module)?;
        if !is_name(&name) {
            return Err(place("the module", &name, "a module's name"));
        }
        let args = self.texts.text(adhoc.args.as_deref().unwrap_or_default())?;
        // Source: Ansible's modules with a free form, by their short names.
        let short = name.rsplit('.').next().unwrap_or_default();
        let args = match short {
            "command" | "shell" | "raw" | "script" | "win_command" | "win_shell" => ModuleArgs::Command(args),
            _ => ModuleArgs::Named(named(&args)?),
        };
        let mut task = self.target(&adhoc.target, Play::Module { name, args })?;
        task.check = adhoc.check;
        Ok(Task::Ansible(Box::new(task)))
    }

    fn target(&self, target: &Target, play: Play) -> Result<AnsibleTask, OrderError> {
        let inventory = match target.inventory.as_deref() {
            None | Some("catalog") => inventory::catalog(self.view),
            Some(path) => Inventory::File(self.path("the inventory", path)?),
        };
        let mut limit = self.hosts(&target.limit)?;
        if !self.limit.is_empty() {
            let wanted = self.limit.to_vec();
            wanted.iter().try_for_each(|host| host_fits(host))?;
            limit = wanted;
        }
        Ok(AnsibleTask {
            play,
            inventory,
            limit,
            tags: Vec::new(),
            skip_tags: Vec::new(),
            vars: BTreeMap::new(),
            vault: None,
            user: target.user.clone(),
            r#become: target.r#become,
            forks: target.forks,
            check: false,
            diff: false,
        })
    }

    fn ssh(&self, ssh: &Ssh) -> Result<Task, OrderError> {
        let mut hosts = self.hosts(&ssh.hosts)?;
        if !self.limit.is_empty() {
            hosts.retain(|host| self.limit.contains(host));
        }
        if hosts.is_empty() {
            return Err(place("the list of hosts", "", "at least one host"));
        }
        Ok(Task::Ssh(SshTask {
            hosts,
            // The far side's shell is quoted against, but its programs read options too.
            command: self.texts.words(&ssh.command)?,
            user: ssh.user.clone(),
            port: ssh.port,
            config: ssh.config.clone(),
            parallel: ssh.parallel,
        }))
    }

    fn http(&self, http: &Http) -> Result<Task, OrderError> {
        let url = self.texts.with(&http.url, percent)?;
        let mut headers = BTreeMap::new();
        for (name, value) in &http.headers {
            let value = self.texts.text(value)?;
            if value.contains(|c: char| c.is_control() || !c.is_ascii()) {
                return Err(place("a header", &value, "one line of ASCII"));
            }
            headers.insert(name.clone(), value);
        }
        let sends = matches!(http.method.as_str(), "POST" | "PUT" | "PATCH");
        let body = match &http.body {
            Some(body) => Some(self.texts.with(body, json)?),
            None if sends => {
                headers.entry("Content-Type".to_owned()).or_insert_with(|| "application/json".to_owned());
                Some(Value::Object(self.answers.clone()).to_string())
            }
            None => None,
        };
        Ok(Task::Http(HttpTask {
            url,
            method: http.method.clone(),
            headers,
            secret_headers: http.secret_headers.clone(),
            ca: http.ca.clone(),
            body,
        }))
    }

    fn steps(&self, steps: &[Step]) -> Result<Vec<StepTask>, OrderError> {
        let mut out = Vec::new();
        for step in steps {
            let has = |(name, wanted): (&String, &String)| {
                self.answers.get(name).and_then(regrow_model::spec::survey::shown).as_ref() == Some(wanted)
            };
            if !step.only.iter().all(has) {
                continue;
            }
            if let Some(task) = self.verb((&step.exec, &step.ansible, &step.adhoc, &step.ssh, &step.http))? {
                out.push(StepTask { name: step.name.clone(), when: step.when, task });
            }
        }
        Ok(out)
    }

    fn slots(&self, name: &Name, runs: Option<u32>, keys: &[String]) -> Result<Vec<Slot>, OrderError> {
        let mut slots: Vec<Slot> =
            runs.into_iter().map(|limit| Slot { name: format!("job/{name}"), limit: limit.max(1) }).collect();
        slots.extend(self.texts.all(keys)?.into_iter().map(|key| Slot { name: format!("key/{key}"), limit: 1 }));
        slots.sort();
        slots.dedup_by(|one, other| one.name == other.name);
        if slots.len() > CONCURRENCY_KEYS_MAX + 1 {
            let text = format!("the run has {} concurrency keys; it may have {CONCURRENCY_KEYS_MAX}", slots.len());
            return Err(OrderError::Text(text));
        }
        Ok(slots)
    }

    fn names(&self, what: &'static str, texts: &[String]) -> Result<Vec<String>, OrderError> {
        let all = self.texts.all(texts)?;
        match all.iter().find(|name| !is_name(name)) {
            Some(wrong) => Err(place(what, wrong, "1 to 63 letters, digits, `.`, `-` and `_`")),
            None => Ok(all),
        }
    }

    fn hosts(&self, texts: &[String]) -> Result<Vec<String>, OrderError> {
        let all = self.texts.all(texts)?;
        all.iter().try_for_each(|host| host_fits(host))?;
        Ok(all)
    }

    /// A path: an answer in it is one part of it and no way up.
    fn path(&self, what: &'static str, path: &str) -> Result<String, OrderError> {
        let out = self.texts.text(path)?;
        let up = |path: &str| path.split('/').filter(|part| *part == "..").count();
        if up(&out) != up(path) || out.split('/').count() != path.split('/').count() || out.contains('\0') {
            return Err(place(what, &out, "a path inside its folder"));
        }
        Ok(out)
    }
}

fn host_fits(host: &str) -> Result<(), OrderError> {
    if is_host(host) { Ok(()) } else { Err(place("a host", host, "names and addresses")) }
}

fn place(place: &'static str, found: &str, wanted: &'static str) -> OrderError {
    let short: String = found.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    OrderError::Place { place, found: format!("`{short}`"), wanted }
}

/// Reads `key=value key="two words"`.
fn named(args: &str) -> Result<BTreeMap<String, String>, OrderError> {
    let mut out = BTreeMap::new();
    let mut rest = args.trim_start();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').ok_or_else(|| place("an argument", rest, "key=value"))?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || key.starts_with('_') {
            return Err(place("an argument's name", key, "letters, digits and `_`, not `_` first"));
        }
        let (value, behind) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                value[1..].split_once(quote).ok_or_else(|| place("an argument", value, "a closed quote"))?
            }
            _ => value.split_once(char::is_whitespace).unwrap_or((value, "")),
        };
        out.insert(key.to_owned(), value.to_owned());
        rest = behind.trim_start();
    }
    Ok(out)
}

/// The hosts that a task works on, as far as they are known before it runs, once each: of the catalog all, or those of
/// its limit, where a group stands for its members; of an inventory's file the limit as it is.
pub(super) fn hosts(task: &Task) -> Vec<String> {
    let mut hosts = match task {
        Task::Exec(_) | Task::Http(_) => Vec::new(),
        Task::Ansible(task) => inventory::hosts(&task.inventory, &task.limit),
        Task::Ssh(task) => task.hosts.clone(),
        Task::Steps(steps) => steps.iter().flat_map(|step| hosts(&step.task)).collect(),
    };
    hosts.sort();
    hosts.dedup();
    hosts
}
