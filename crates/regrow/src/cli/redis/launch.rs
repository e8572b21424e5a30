//! Starts the servers of a Redis cluster as a group that the agent keeps.

use super::super::Target;
use super::super::plan::differences;
use crate::bundle;
use crate::exit::{Code, Failure, print, say};
use regrow_control::apply::Verb;
use regrow_control::status::Status;
use regrow_model::Name;
use regrow_model::observed::EndpointState;
use regrow_redis::address::Address;
use regrow_redis::cli::Launch;
use regrow_serve::wire::Applied;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long servers may take to start.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Starts what is wanted, and waits until all of it serves; where. `None`: it was only to be shown. What is so already is left as it is,
/// so that the same command goes on after a break.
pub(super) async fn launch(
    target: &Target,
    wanted: &Launch,
    yes: bool,
    dry_run: bool,
) -> Result<Option<Vec<Address>>, Failure> {
    let (count, Some(folder)) = (wanted.count.unwrap_or(0), &wanted.spec) else {
        return Err(Failure::usage("give --spec with --launch"));
    };
    let name: Name = wanted.group.parse().map_err(|error| Failure::usage(format!("--group: {error}")))?;
    let (path, text) = (folder.join(format!("{name}.yaml")), group(&name, count, wanted)?);
    let there = there(&path, &text)?;
    let mut bundle = bundle::read(folder)?;
    if !there {
        bundle.files.push((path.display().to_string(), text.clone()));
    }
    let client = target.client()?;
    let status: Status = client.get("/api/status").await?;
    loopback_or_password(status.nodes.iter().map(|node| node.address.as_str()), wanted)?;
    let planned: Applied = client.post("/api/plan", &bundle).await?;
    let ours = [format!("group/{name}"), format!("service/{name}")];
    let other = planned.differences.iter().find(|difference| {
        let object = difference.object.to_string();
        !(ours.contains(&object) && difference.verb == Verb::Create)
    });
    if let Some(other) = other {
        return Err(Failure::new(
            Code::Refused,
            format!(
                "applying {} would change more than the new group: {}\n  give the folder of the spec that the agent has; `regrow plan {}` shows all, `regrow apply` does it",
                folder.display(),
                other.object,
                folder.display()
            ),
        ));
    }
    say(format!("{}:\n\n{text}", path.display()));
    if dry_run {
        print(&differences(&planned.differences))?;
        return Ok(None);
    }
    if !yes {
        confirm(&format!("Start {count} servers?"))?;
    }
    if !there {
        write(&path, &text).map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let _: Applied = client.post("/api/apply", &bundle).await?;
    say(format!("waiting until {count} servers serve"));
    let began = Instant::now();
    loop {
        let status: Status = client.get("/api/status").await?;
        let endpoints = status.services.iter().filter(|service| service.name == name).flat_map(|one| &one.endpoints);
        let serving: Vec<&str> = endpoints
            .filter(|endpoint| endpoint.state == EndpointState::Passing)
            .map(|endpoint| endpoint.address.as_str())
            .collect();
        if serving.len() == usize::from(count) {
            return addresses(&serving).map(Some);
        }
        if began.elapsed() > START_WITHIN {
            return Err(Failure::new(
                Code::TimedOut,
                format!(
                    "{} of {count} servers serve after {}: `regrow status` and `regrow logs {name}-0` show why; the same command goes on",
                    serving.len(),
                    humantime::format_duration(START_WITHIN)
                ),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the group's file is there as it would be written.
fn there(path: &Path, text: &str) -> Result<bool, Failure> {
    match std::fs::read_to_string(path) {
        Ok(found) if found == text => Ok(true),
        Ok(_) => Err(Failure::new(
            Code::Refused,
            format!(
                "{} is there, and says something else: give another --group, or make the cluster of the servers that it names",
                path.display()
            ),
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The whole file or none of it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("new");
    let mut file = std::fs::File::create(&part)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&part, path))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&part);
        })
}

/// Beyond loopback nobody may come in without a password.
fn loopback_or_password<'a>(mut nodes: impl Iterator<Item = &'a str>, wanted: &Launch) -> Result<(), Failure> {
    let beyond = nodes.find(|node| !node.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()));
    match (beyond, &wanted.config) {
        (Some(address), None) => Err(Failure::new(
            Code::Refused,
            format!(
                "servers on {address} are beyond loopback, where they need a password; nothing was changed\n  give --config with a file that is on every node and sets requirepass and masterauth, and the password in REGROW_REDIS_PASSWORD"
            ),
        )),
        _ => Ok(()),
    }
}

fn addresses(serving: &[&str]) -> Result<Vec<Address>, Failure> {
    let parse = |text: &&str| {
        text.parse().map_err(|error| Failure::failed(format!("the agent says that a server is at {text}: {error}")))
    };
    serving.iter().map(parse).collect()
}

fn confirm(question: &str) -> Result<(), Failure> {
    let mut answer = String::new();
    let asked =
        write!(std::io::stderr(), "{question} (yes/no) ").and_then(|()| std::io::stdin().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::new(Code::Refused, "not confirmed; nothing was changed")),
    }
}

/// The group as a file of the spec. Each server has a folder of its own beside the spec, on the node where it runs.
fn group(name: &Name, count: u16, wanted: &Launch) -> Result<String, Failure> {
    let mut words = vec!["sh".to_owned(), "-c".to_owned()];
    words.push("umask 077 && mkdir -p \"$0\" && cd \"$0\" && exec \"$@\"".to_owned());
    words.push(format!("{name}/${{INSTANCE}}"));
    words.push(plain(&wanted.program, wanted.program.components().count() > 1)?);
    if let Some(config) = &wanted.config {
        words.push(plain(config, true)?);
    }
    for word in ["--port", "${PORT}", "--bind", "${ADDRESS}", "--cluster-enabled", "yes", "--appendonly", "yes"] {
        words.push(word.to_owned());
    }
    let quoted = |word: &String| serde_json::to_string(word).map_err(|error| Failure::failed(error.to_string()));
    let words: Vec<String> = words.iter().map(quoted).collect::<Result<_, _>>()?;
    let (first, last) = (wanted.ports.start(), wanted.ports.end());
    Ok(format!(
        "# The servers of a Redis cluster, written by `regrow redis create --launch`. To grow, raise the size and use `regrow redis add-node`.
services:
  {name}:
    checks: [{{tcp: true}}]

groups:
  {name}:
    service: {name}
    size: {count}
    provider: process
    port: {first}-{last}
    command:
      - {}
    update: {{max_unavailable: 1, health_within: 1m}}
    stop: {{signal: TERM, grace: 1m}}
",
        words.join("\n      - ")
    ))
}

/// A path as a word of a command: absolute where it is one, because the server runs in a folder of its own.
fn plain(path: &Path, absolute: bool) -> Result<String, Failure> {
    let bad = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let path: PathBuf =
        if absolute { std::path::absolute(path).map_err(|error| bad(error.to_string()))? } else { path.into() };
    path.to_str().map(|text| text.replace('$', "$$")).ok_or_else(|| bad("the path is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wanted {
        #[command(flatten)]
        launch: Launch,
    }

    fn wanted(words: &[&str]) -> Launch {
        let base = ["create", "--launch", "3", "--spec", "."];
        Wanted::try_parse_from(base.iter().chain(words)).map(|wanted| wanted.launch).expect("words")
    }

    /// A node beyond loopback needs a file that sets passwords; what is only asked with `--launch` is refused without it.
    #[test]
    fn beyond_loopback() {
        let check = |nodes: &[&str], words: &[&str]| loopback_or_password(nodes.iter().copied(), &wanted(words));
        assert!(check(&["127.0.0.1", "::1", "127.0.0.9"], &[]).is_ok());
        assert!(check(&["127.0.0.1", "10.0.0.1"], &[]).is_err_and(|failure| failure.message.contains("10.0.0.1")));
        assert!(check(&["10.0.0.1"], &["--config", "/etc/redis/auth.conf"]).is_ok());
        assert!(Wanted::try_parse_from(["create", "--group", "other"]).is_err());
    }

    /// Paths and names are words of the command, whatever is in them.
    #[test]
    fn the_file() {
        let name: Name = "cache".parse().expect("a name");
        let text =
            group(&name, 3, &wanted(&["--program", "/opt/a \"$b\"/redis", "--ports", "7000-7002"])).expect("a file");
        assert!(text.contains("      - \"/opt/a \\\"$$b\\\"/redis\"\n      - \"--port\"\n"), "{text}");
        assert!(text.contains("    port: 7000-7002\n") && text.contains("      - \"cache/${INSTANCE}\"\n"), "{text}");
    }
}
