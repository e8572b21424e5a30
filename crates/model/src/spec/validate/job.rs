//! Rules of jobs.

use super::super::command::{ExpandError, expand};
use super::super::diagnostic::{Wrongs, quoted};
use super::super::tree::At;
use super::super::{Adhoc, Ansible, Exec, Http, Job, Parameter, ParameterType, Secret, Ssh, Target, near};
use super::field;
use crate::limits::{CONCURRENCY_KEYS_MAX, JOB_HOSTS_MAX, PARAMETERS_MAX, STEPS_MAX};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn check(job: &Job, at: &At<'_>, wrong: &mut Wrongs) {
    let given = [
        ("exec", job.exec.is_some()),
        ("ansible", job.ansible.is_some()),
        ("adhoc", job.adhoc.is_some()),
        ("ssh", job.ssh.is_some()),
        ("http", job.http.is_some()),
        ("steps", job.steps.is_some()),
    ];
    one_of("job", &given, at, wrong);
    parameters(job, at, wrong);
    secrets(job, at, wrong);
    let verbs = Verbs { exec: &job.exec, ansible: &job.ansible, adhoc: &job.adhoc, ssh: &job.ssh, http: &job.http };
    verbs.check(job, at, wrong);
    steps(job, at, wrong);
    let concurrency = at.get("concurrency").get("keys");
    if job.concurrency.keys.len() > CONCURRENCY_KEYS_MAX {
        let message = format!("there are {} concurrency keys", job.concurrency.keys.len());
        wrong.key(&concurrency, message, format!("a job may have {CONCURRENCY_KEYS_MAX}"));
    }
    texts(job, &concurrency, &job.concurrency.keys, wrong);
    field::positive(&at.get("timeout"), job.timeout, wrong);
    field::span(&at.get("grace"), job.grace, wrong);
    field::span(&at.get("retention"), job.retention, wrong);
    let retry = at.get("retry");
    field::span(&retry.get("delay"), job.retry.delay, wrong);
    field::span(&retry.get("max_delay"), job.retry.max_delay, wrong);
    if let Some(within) = job.start_within {
        field::positive(&at.get("start_within"), within, wrong);
    }
    if job.grace.0 > Duration::from_secs(600) {
        wrong.value(&at.get("grace"), format!("a grace of {} is too long", job.grace), "the longest is 10m");
    }
}

/// What a job or a step may be.
struct Verbs<'a> {
    exec: &'a Option<Exec>,
    ansible: &'a Option<Ansible>,
    adhoc: &'a Option<Adhoc>,
    ssh: &'a Option<Ssh>,
    http: &'a Option<Http>,
}

impl Verbs<'_> {
    fn check(&self, job: &Job, at: &At<'_>, wrong: &mut Wrongs) {
        if let Some(verb) = self.exec {
            exec(job, verb, &at.get("exec"), wrong);
        }
        if let Some(verb) = self.ansible {
            ansible(job, verb, &at.get("ansible"), wrong);
        }
        if let Some(verb) = self.adhoc {
            adhoc(job, verb, &at.get("adhoc"), wrong);
        }
        if let Some(verb) = self.ssh {
            ssh(job, verb, &at.get("ssh"), wrong);
        }
        if let Some(verb) = self.http {
            http(job, verb, &at.get("http"), wrong);
        }
    }
}

fn one_of(what: &str, given: &[(&str, bool)], at: &At<'_>, wrong: &mut Wrongs) {
    let found: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match found.as_slice() {
        [_] => {}
        [] => {
            let keys: Vec<String> = given.iter().map(|(key, _)| format!("`{key}`")).collect();
            wrong.key(at, format!("the {what} does not say what to do"), format!("add one of {}", keys.join(", ")));
        }
        [first, second, ..] => {
            let message = format!("the {what} is `{first}` and `{second}` at once");
            wrong.key(&at.get(second), message, "make them two entries of `steps`");
        }
    }
}

fn parameters(job: &Job, at: &At<'_>, wrong: &mut Wrongs) {
    let all = at.get("parameters");
    if job.parameters.len() > PARAMETERS_MAX {
        let message = format!("there are {} parameters; a job may have {PARAMETERS_MAX}", job.parameters.len());
        wrong.key(&all, message, "let one of them name a file");
        return;
    }
    for (name, parameter) in &job.parameters {
        let at = all.get(name);
        variable(name, &at, "a parameter's name", wrong);
        if let Some(pattern) = &parameter.pattern
            && let Err(error) = regex::Regex::new(&format!("^(?:{pattern})$"))
        {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("{} is not a regular expression: {why}", quoted(pattern));
            wrong.value(&at.get("pattern"), message, "for example `pattern: \"[a-z]+\"`");
            continue;
        }
        let texts = !matches!(parameter.sort, ParameterType::Integer | ParameterType::Boolean);
        if !texts && (!parameter.choices.is_empty() || parameter.pattern.is_some()) {
            let key = if parameter.pattern.is_some() { "pattern" } else { "choices" };
            wrong.key(&at.get(key), format!("`{key}` is for text only"), "bound a number by `min` and `max`");
        }
        if let (Some(min), Some(max)) = (parameter.min, parameter.max)
            && min > max
        {
            wrong.value(&at.get("max"), format!("`max` is {max} and `min` is {min}"), "swap them");
        }
        default(parameter, &at, wrong);
    }
}

fn default(parameter: &Parameter, at: &At<'_>, wrong: &mut Wrongs) {
    if let Some(value) = &parameter.default
        && let Err(why) = parameter.read(value)
    {
        wrong.value(&at.get("default"), format!("the default {why}"), "a default must be a value that may be given");
    }
}

fn secrets(job: &Job, at: &At<'_>, wrong: &mut Wrongs) {
    for (name, one) in &job.secrets {
        let at = at.get("secrets").get(name);
        variable(name, &at, "a variable's name", wrong);
        if job.parameters.contains_key(name) {
            wrong.key(&at, format!("`{name}` is a parameter and a secret"), "rename one of them");
        }
        secret(one, &at, wrong);
    }
    if let Some(one) = &job.webhook {
        secret(one, &at.get("webhook"), wrong);
    }
}

fn secret(secret: &Secret, at: &At<'_>, wrong: &mut Wrongs) {
    let given = [&secret.file, &secret.env, &secret.key].iter().filter(|source| source.is_some()).count();
    if given != 1 {
        let help = "write one of `file: PATH`, `env: NAME`, `key: /store/key`";
        wrong.key(at, "a secret is in one place", help);
    }
    if let Some(path) = &secret.file {
        field::path(&at.get("file"), path, wrong);
    }
}

fn no_secret(job: &Job, at: &At<'_>, name: &str, wrong: &mut Wrongs) {
    let help = near::help(name, job.secrets.keys().map(String::as_str), "the job's secrets are");
    wrong.value(at, format!("there is no secret {} in the job", quoted(name)), help);
}

/// What a variable of the environment and of Ansible may be called.
fn variable(name: &str, at: &At<'_>, what: &str, wrong: &mut Wrongs) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let named = (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.as_bytes()[0].is_ascii_digit();
    if !named {
        let help = "use letters, digits and `_`, not a digit first, at most 63";
        wrong.key(at, format!("{} is not {what}", quoted(name)), help);
    }
}

fn exec(job: &Job, exec: &Exec, at: &At<'_>, wrong: &mut Wrongs) {
    let command = at.get("command");
    if exec.command.is_empty() {
        wrong.value(&command, "the command is empty", "name a program and its arguments: `[./backup, --all]`");
    }
    field::command(&command, &exec.command, wrong);
    program(&command, &exec.command, wrong);
    texts(job, &command, &exec.command, wrong);
    if let Some(directory) = &exec.directory {
        field::path(&at.get("directory"), directory, wrong);
    }
    for (name, value) in &exec.environment {
        let at = at.get("environment").get(name);
        variable(name, &at, "a variable's name", wrong);
        text(job, &at, value, wrong);
    }
}

/// Which program runs is the spec's to say.
fn program(at: &At<'_>, command: &[String], wrong: &mut Wrongs) {
    if let Some(program) = command.first()
        && program.contains("${")
    {
        let help = "name the program itself; parameters are its arguments";
        wrong.value(&at.index(0), "a parameter cannot choose the program", help);
    }
}

fn ansible(job: &Job, ansible: &Ansible, at: &At<'_>, wrong: &mut Wrongs) {
    one_of(
        "playbook run",
        &[("playbook", ansible.playbook.is_some()), ("roles", !ansible.roles.is_empty())],
        at,
        wrong,
    );
    if let Some(playbook) = &ansible.playbook {
        path(job, &at.get("playbook"), playbook, wrong);
    }
    texts(job, &at.get("roles"), &ansible.roles, wrong);
    texts(job, &at.get("tags"), &ansible.tags, wrong);
    texts(job, &at.get("skip_tags"), &ansible.skip_tags, wrong);
    target(job, &ansible.target, &at.get("target"), wrong);
    for name in ansible.vars.keys() {
        variable(name, &at.get("vars").get(name), "a variable's name", wrong);
    }
    if let Some(vault) = &ansible.vault
        && !job.secrets.contains_key(vault)
    {
        no_secret(job, &at.get("vault"), vault, wrong);
    }
}

fn adhoc(job: &Job, adhoc: &Adhoc, at: &At<'_>, wrong: &mut Wrongs) {
    text(job, &at.get("module"), &adhoc.module, wrong);
    if let Some(args) = &adhoc.args {
        text(job, &at.get("args"), args, wrong);
    }
    target(job, &adhoc.target, &at.get("target"), wrong);
}

fn target(job: &Job, target: &Target, at: &At<'_>, wrong: &mut Wrongs) {
    if let Some(inventory) = &target.inventory {
        path(job, &at.get("inventory"), inventory, wrong);
    }
    texts(job, &at.get("limit"), &target.limit, wrong);
    if let Some(user) = &target.user {
        field::user(&at.get("user"), user, wrong);
    }
}

fn ssh(job: &Job, ssh: &Ssh, at: &At<'_>, wrong: &mut Wrongs) {
    let hosts = at.get("hosts");
    if ssh.hosts.is_empty() {
        wrong.value(&hosts, "there are no hosts", "name some, or a list parameter: `[\"${hosts}\"]`");
    }
    if ssh.hosts.len() > JOB_HOSTS_MAX {
        wrong.key(&hosts, format!("there are {} hosts", ssh.hosts.len()), format!("{JOB_HOSTS_MAX} are allowed"));
    }
    texts(job, &hosts, &ssh.hosts, wrong);
    let command = at.get("command");
    if ssh.command.is_empty() {
        wrong.value(&command, "the command is empty", "name a program and its arguments: `[uptime]`");
    }
    field::command(&command, &ssh.command, wrong);
    program(&command, &ssh.command, wrong);
    texts(job, &command, &ssh.command, wrong);
    if let Some(user) = &ssh.user {
        field::user(&at.get("user"), user, wrong);
    }
    if let Some(config) = &ssh.config {
        field::path(&at.get("config"), config, wrong);
    }
}

fn http(job: &Job, http: &Http, at: &At<'_>, wrong: &mut Wrongs) {
    text(job, &at.get("url"), &http.url, wrong);
    let start = http.url.split("${").next().unwrap_or_default();
    let secure = start.strip_prefix("https://");
    let rest = secure.or_else(|| start.strip_prefix("http://"));
    let host = rest.filter(|rest| rest.contains('/') || !http.url.contains("${")).map(host_of);
    if host.is_none() {
        let help = "write host and port in full: `https://deploy.example.com/apps/${name}`";
        let message = format!("{} is not an `http://` or `https://` URL of one host", quoted(&http.url));
        wrong.value(&at.get("url"), message, help);
    }
    if !http.secret_headers.is_empty() && secure.is_none() && !host.is_some_and(is_this_machine) {
        let message = format!("a secret is not sent to {} without TLS", quoted(&http.url));
        wrong.value(&at.get("url"), message, "use `https://`");
    }
    if let Some(ca) = &http.ca {
        field::path(&at.get("ca"), ca, wrong);
        if secure.is_none() {
            wrong.key(&at.get("ca"), "only an `https://` server has a certificate".to_owned(), "use `https://`");
        }
    }
    const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    if !METHODS.contains(&http.method.as_str()) {
        let help = near::help(&http.method.to_uppercase(), METHODS, "the methods are");
        wrong.value(&at.get("method"), format!("{} is not a method", quoted(&http.method)), help);
    }
    for (name, value) in &http.headers {
        let at = at.get("headers").get(name);
        header(name, &at, wrong);
        text(job, &at, value, wrong);
    }
    for (name, value) in &http.secret_headers {
        let at = at.get("secret_headers").get(name);
        header(name, &at, wrong);
        match expand(value, |name| job.secrets.contains_key(name).then_some("")) {
            Ok(_) => {}
            Err(ExpandError::Unknown { name }) => no_secret(job, &at, &name, wrong),
            Err(error) => wrong.value(&at, error.to_string(), EXPAND_HELP),
        }
    }
    if let Some(body) = &http.body {
        text(job, &at.get("body"), body, wrong);
    }
}

fn header(name: &str, at: &At<'_>, wrong: &mut Wrongs) {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        wrong.key(at, format!("{} is not a header", quoted(name)), "for example `X-Token`");
    }
}

/// The host of what stands behind a URL's scheme.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn steps(job: &Job, at: &At<'_>, wrong: &mut Wrongs) {
    let steps = job.steps.as_deref().unwrap_or_default();
    let at = at.get("steps");
    if steps.len() > STEPS_MAX {
        wrong.key(&at, format!("there are {} steps; a job may have {STEPS_MAX}", steps.len()), "make several jobs");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        let at = at.index(index);
        let given = [
            ("exec", step.exec.is_some()),
            ("ansible", step.ansible.is_some()),
            ("adhoc", step.adhoc.is_some()),
            ("ssh", step.ssh.is_some()),
            ("http", step.http.is_some()),
        ];
        one_of("step", &given, &at, wrong);
        if !names.insert(&step.name) {
            wrong.value(&at.get("name"), format!("two steps are called `{}`", step.name), "rename one of them");
        }
        for name in step.only.keys().filter(|name| !job.parameters.contains_key(*name)) {
            unknown(job, &at.get("only").get(name), name, wrong);
        }
        let verbs =
            Verbs { exec: &step.exec, ansible: &step.ansible, adhoc: &step.adhoc, ssh: &step.ssh, http: &step.http };
        verbs.check(job, &at, wrong);
    }
}

fn texts(job: &Job, at: &At<'_>, all: &[String], wrong: &mut Wrongs) {
    for (index, one) in all.iter().enumerate() {
        text(job, &at.index(index), one, wrong);
    }
}

/// A path in which parameters are names only, so that they cannot lead out of its folder.
fn path(job: &Job, at: &At<'_>, path: &str, wrong: &mut Wrongs) {
    field::path(at, path, wrong);
    text(job, at, path, wrong);
    for (name, parameter) in &job.parameters {
        let safe = !parameter.choices.is_empty() || matches!(parameter.sort, ParameterType::Name | ParameterType::Host);
        if path.contains(&format!("${{{name}}}")) && !safe {
            let message = format!("the parameter `{name}` is any text, and this is a path");
            wrong.value(at, message, "give the parameter `type: name`, or `choices`");
        }
    }
}

/// A text whose `${NAME}`s are parameters.
fn text(job: &Job, at: &At<'_>, text: &str, wrong: &mut Wrongs) {
    match expand(text, |name| job.parameters.contains_key(name).then_some("")) {
        Ok(_) => {}
        Err(ExpandError::Unknown { name }) => unknown(job, at, &name, wrong),
        Err(error) => wrong.value(at, error.to_string(), EXPAND_HELP),
    }
}

const EXPAND_HELP: &str = "close it with `}`, or write `$$` for a dollar sign";

fn unknown(job: &Job, at: &At<'_>, name: &str, wrong: &mut Wrongs) {
    if wrong.full() {
        return;
    }
    let help = near::help(name, job.parameters.keys().map(String::as_str), "the job's parameters are");
    wrong.value(at, format!("there is no parameter {} in the job", quoted(name)), help);
}
