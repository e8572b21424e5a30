use super::text::columns;
use crate::client::Client;
use crate::exit::{Failure, print, print_json};
use clap::Args;
use regrow_model::Name;
use regrow_model::spec::{Ansible, Job, Parameter, ParameterType};

/// Show what a job does, and what its runs may be given
///
/// Examples:
///   regrow job show deploy
///   regrow job show deploy --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Show {
    /// The job
    #[arg(value_name = "JOB")]
    job: Name,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let job: Job = client.get(&format!("/api/jobs/{}", self.job)).await?;
        if self.json { print_json(&job) } else { print(&whole(&self.job, &job)) }
    }
}

/// What a job does, in a line.
pub(super) fn does(job: &Job) -> String {
    let ansible = |ansible: &Ansible| match &ansible.playbook {
        Some(playbook) => format!("ansible {playbook}"),
        None => format!("ansible roles {}", ansible.roles.join(", ")),
    };
    if let Some(exec) = &job.exec {
        format!("exec {}", exec.command.join(" "))
    } else if let Some(spec) = &job.ansible {
        ansible(spec)
    } else if let Some(adhoc) = &job.adhoc {
        format!("adhoc {} {}", adhoc.module, adhoc.args.as_deref().unwrap_or_default()).trim_end().to_owned()
    } else if let Some(ssh) = &job.ssh {
        format!("ssh {}: {}", ssh.hosts.join(","), ssh.command.join(" "))
    } else if let Some(http) = &job.http {
        format!("http {} {}", http.method, http.url)
    } else {
        let steps: Vec<&str> = job.steps.iter().flatten().map(|step| step.name.as_str()).collect();
        if steps.is_empty() { "nothing".to_owned() } else { format!("steps {}", steps.join(", ")) }
    }
}

fn whole(name: &Name, job: &Job) -> String {
    let mut text = format!("job/{name}");
    text.push_str(&job.description.as_ref().map_or("\n".to_owned(), |text| format!(": {}\n", text.trim_end())));
    let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<11}  {value}\n"));
    row("does", does(job));
    row("timeout", format!("{}, then {} until SIGKILL", job.timeout, job.grace));
    row("priority", job.priority.to_string());
    let runs = job.concurrency.runs.map(|runs| format!("{runs} at a time"));
    let keys = job.concurrency.keys.iter().map(|key| format!("one of {key}"));
    let concurrency: Vec<String> = runs.into_iter().chain(keys).collect();
    if !concurrency.is_empty() {
        row("concurrency", concurrency.join(", "));
    }
    if job.retry.times > 0 {
        row("retry", format!("{} times, first after {}", job.retry.times, job.retry.delay));
    }
    if !job.labels.is_empty() {
        let labels: Vec<&str> = job.labels.iter().map(Name::as_str).collect();
        row("workers", format!("with {}", labels.join(", ")));
    }
    if !job.secrets.is_empty() {
        let secrets: Vec<&str> = job.secrets.keys().map(String::as_str).collect();
        row("secrets", secrets.join(", "));
    }
    if job.webhook.is_some() {
        row("webhook", format!("POST /api/hooks/{name}"));
    }
    row("kept", job.retention.to_string());
    if !job.parameters.is_empty() {
        let rows: Vec<Vec<String>> = job.parameters.iter().map(question).collect();
        text.push('\n');
        text.push_str(&columns(&["PARAMETER", "TYPE", "DEFAULT", "TAKES", "WHAT"], &rows));
    }
    text
}

fn question((name, parameter): (&String, &Parameter)) -> Vec<String> {
    let sort = match parameter.sort {
        ParameterType::Text => "text",
        ParameterType::Lines => "lines",
        ParameterType::Host => "host",
        ParameterType::Name => "name",
        ParameterType::Integer => "integer",
        ParameterType::Boolean => "boolean",
        ParameterType::List => "list",
    };
    let default = parameter.default.as_ref().map_or("(needed)".to_owned(), ToString::to_string);
    let mut takes = Vec::new();
    if !parameter.choices.is_empty() {
        takes.push(parameter.choices.join("|"));
    }
    takes.extend(parameter.pattern.iter().map(|pattern| format!("/{pattern}/")));
    takes.extend(match (parameter.min, parameter.max) {
        (None, None) => None,
        (Some(min), None) => Some(format!("{min} and up")),
        (None, Some(max)) => Some(format!("up to {max}")),
        (Some(min), Some(max)) => Some(format!("{min} to {max}")),
    });
    let what = parameter.description.clone().unwrap_or_default();
    vec![name.clone(), sort.to_owned(), default, takes.join(", "), what]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job with its survey: what each parameter takes, and which must be given.
    #[test]
    fn a_survey() {
        let job = serde_json::json!({
            "description": "Deploys the shop",
            "parameters": {
                "env": {"choices": ["staging", "production"], "default": "staging"},
                "n": {"type": "integer", "min": 1, "max": 9, "default": 2, "description": "at a time"},
                "version": {"pattern": "v[0-9]+"},
            },
            "concurrency": {"runs": 1, "keys": ["env-${env}"]},
            "exec": {"command": ["/usr/bin/deploy", "${version}"]},
        });
        let job = serde_json::from_value(job).expect("a job");
        assert_eq!(
            whole(&Name::new("deploy").expect("a name"), &job),
            "job/deploy: Deploys the shop\n  \
             does         exec /usr/bin/deploy ${version}\n  \
             timeout      33m 20s, then 10s until SIGKILL\n  \
             priority     5\n  \
             concurrency  1 at a time, one of env-${env}\n  \
             kept         1h 23m 20s\n\n\
             PARAMETER  TYPE     DEFAULT    TAKES               WHAT\n\
             env        text     \"staging\"  staging|production\n\
             n          integer  2          1 to 9              at a time\n\
             version    text     (needed)   /v[0-9]+/\n"
        );
    }
}
