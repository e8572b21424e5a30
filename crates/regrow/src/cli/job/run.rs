use super::{end, live, text};
use crate::client::Client;
use crate::exit::{Failure, print, print_json, say};
use clap::Args;
use regrow_control::features::job::Wish;
use regrow_model::spec::Job;
use regrow_model::{Name, RunId, Time};
use regrow_serve::jobs::wire::{Accepted, Submit};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Largest file of parameters, bytes.
const PARAM_FILE_BYTES_MAX: u64 = 8 << 20;

/// Run a job, and show it until it has ended
///
/// A VALUE is data: nothing in it is looked at, by no shell and no template. What others on this machine may not see
/// belongs into --param-file, because every user can see the words of a command.
///
/// Ends with 0 when the run succeeded, 1 when it failed, was cancelled or lost, 3 when it was refused, 4 when there is no
/// such job, 6 when it took too long or had not started by its deadline. Ctrl-C leaves the run going on.
///
/// Examples:
///   regrow job run deploy host=web1 version=1.4.2
///   regrow job run nightly --at 2026-12-01T02:30:00Z --detach
///   regrow job run deploy --param-file deploy.json --priority 9 --deadline 2026-12-01T03:00:00Z
///   regrow job run deploy version=1.4.2 --limit web1 --key release-142
///   regrow job run deploy version=1.4.2 --dry-run
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Run {
    /// The job
    #[arg(value_name = "JOB")]
    job: Name,
    /// Values of its parameters; `regrow job show JOB` lists them
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// A JSON object of values beside these, or - for standard input
    #[arg(long, value_name = "FILE")]
    param_file: Option<PathBuf>,
    /// Another priority than the job's: 0 to 9, the higher first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Start it so long from now
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// Start it then, as 2026-12-01T02:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Time>,
    /// If it has not started by then, it never does
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Time>,
    /// Only this host of those that it works on; may be given again
    #[arg(long, value_name = "HOST")]
    limit: Vec<String>,
    /// A word of your own: a second run with it is the first, as long as that is known
    #[arg(long, value_name = "WORD")]
    key: Option<String>,
    /// Print the run's id, and do not wait for its end
    #[arg(long)]
    detach: bool,
    /// Check the values, show what the run would be given, and run nothing
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// JSON instead of text: the run as it ended, or with --detach its id
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> Result<Time, String> {
    let wrong = |_| "write it as 2026-12-01T02:30:00Z".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(wrong)?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| "it is before 1970".to_owned())?;
    Ok(Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

impl Run {
    pub(super) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (detach, json, dry_run) = (self.detach, self.json, self.dry_run);
        let submit = self.submit()?;
        if dry_run {
            let job: Job = client.get(&format!("/api/jobs/{}", submit.job)).await?;
            return show_dry(&job, &submit, json);
        }
        let Accepted { id } = client.post("/api/runs", &submit).await?;
        if detach {
            return if json { print_json(&Accepted { id }) } else { print(&format!("{id}\n")) };
        }
        if !json {
            say(format!("run {id} of {} is accepted", submit.job));
        }
        wait(client, &id, json).await
    }

    fn submit(self) -> Result<Submit, Failure> {
        let mut parameters = match &self.param_file {
            Some(path) => read(path)?,
            None => BTreeMap::new(),
        };
        let mut given = BTreeMap::new();
        for (name, value) in self.parameters {
            if given.insert(name.clone(), Value::String(value)).is_some() {
                return Err(Failure::usage(format!("{name} is given twice: put a comma between the items of a list")));
            }
        }
        parameters.append(&mut given);
        let wish = Wish {
            parameters,
            priority: self.priority,
            at: self.at,
            delay_seconds: self.delay.map(|delay| delay.as_secs()),
            deadline: self.deadline,
            limit: self.limit,
            key: self.key,
        };
        Ok(Submit { job: self.job, wish })
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>, Failure> {
    let shown = path.display();
    let refuse = |error: std::io::Error| Failure::usage(format!("cannot read {shown}: {error}"));
    let mut text = Vec::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(refuse)?)
    };
    source.take(PARAM_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(refuse)?;
    if text.len() as u64 > PARAM_FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{shown} has more than {PARAM_FILE_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("{shown} is not a JSON object of parameters: {error}")))
}

fn show_dry(job: &Job, submit: &Submit, json: bool) -> Result<(), Failure> {
    let answers = job
        .answers(&submit.wish.parameters)
        .map_err(|errors| Failure::usage(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    if json {
        return print_json(&serde_json::json!({"job": submit.job, "parameters": answers}));
    }
    let rows: Vec<Vec<String>> =
        answers.iter().map(|(name, value)| vec![name.clone(), text::plain(&value.to_string())]).collect();
    print(&format!("would run {}: {}\n", submit.job, super::show::does(job)))?;
    if rows.is_empty() { Ok(()) } else { print(&text::columns(&["PARAMETER", "VALUE"], &rows)) }
}

/// Shows a run until it has ended; the first Ctrl-C leaves it.
pub(super) async fn wait(client: &Client, id: &RunId, json: bool) -> Result<(), Failure> {
    let run = tokio::select! {
        run = live::follow(client, id, json) => run?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::failed(format!(
            "run {id} goes on without you: `regrow job logs -f {id}` follows it, `regrow job cancel {id}` ends it"
        ))),
    };
    if json {
        print_json(&run)?;
    }
    end::of(&run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn parsed(words: &[&str]) -> Result<Wish, String> {
        let line = Line::try_parse_from(["run", "deploy"].iter().chain(words)).map_err(|error| error.to_string())?;
        line.run.submit().map(|submit| submit.wish).map_err(|failure| failure.message)
    }

    /// Values are data, whatever is in them; what is no value is refused.
    #[test]
    fn values_are_data() {
        let wish = parsed(&["a=b=c", "file=@/etc/passwd", "n=3", "t={{ x }}", "e="]).expect("a wish");
        for (name, value) in [("a", "b=c"), ("file", "@/etc/passwd"), ("n", "3"), ("t", "{{ x }}"), ("e", "")] {
            assert_eq!(wish.parameters[name], Value::String(value.to_owned()));
        }
        assert!(parsed(&["a"]).is_err_and(|error| error.contains("NAME=VALUE")));
        assert!(parsed(&["=a"]).is_err_and(|error| error.contains("NAME=VALUE")));
        assert!(parsed(&["a=1", "a=2"]).is_err_and(|error| error.contains("twice")));
        assert!(parsed(&["--priority", "10"]).is_err());
    }

    /// When it may start, and a file of values that words on the line go before.
    #[test]
    fn times_and_files() {
        let words = ["--at", "2026-12-01T02:30:00Z", "--delay", "2m", "--deadline", "2026-12-01 03:00:00"];
        let wish = parsed(&words).expect("a wish");
        assert_eq!(
            (wish.at, wish.delay_seconds, wish.deadline),
            (Some(Time(1_796_092_200_000)), Some(120), Some(Time(1_796_094_000_000)))
        );
        assert!(parsed(&["--at", "tomorrow"]).is_err_and(|error| error.contains("2026-12-01T02:30:00Z")));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"n": 3, "hosts": ["a", "b"]}"#).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let wish = parsed(&["--param-file", path, "n=4"]).expect("a wish");
        assert_eq!((&wish.parameters["n"], &wish.parameters["hosts"]), (&"4".into(), &serde_json::json!(["a", "b"])));
        std::fs::write(file.path(), "[]").expect("written");
        assert!(parsed(&["--param-file", path]).is_err_and(|error| error.contains("not a JSON object")));
    }
}
