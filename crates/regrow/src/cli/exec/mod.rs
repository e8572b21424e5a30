//! A command on many hosts over SSH.

mod select;
mod show;

use super::Target;
use crate::exit::{Code, Failure};
use clap::Args;
use regrow_control::exec::report::{Ending, HostResult, Tally};
use regrow_control::exec::rollout::{Next, Pace, Rollout, Share};
use regrow_control::exec::{Target as Host, quoted};
use regrow_effects::ssh::{Run, Settings, Ssh, Stream};
use show::Show;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines and results on their way to the screen.
const TOLD: usize = 4_096;

/// Run a command on many hosts over SSH, in parallel
///
/// The command's words reach the remote program exactly as they are here; no shell looks at them unless --shell is
/// given. Hosts are reached by the system's `ssh` with its own configuration, keys and known hosts.
///
/// HOSTS are names with ranges (web[1-20].shop), @FILE (one a line), service/NAME, group/NAME or node/all (asked of the
/// agent), or with --inventory the patterns of Ansible. !HOSTS leaves some out.
///
/// Examples:
///   regrow exec web[1-20],db1 -- uptime
///   regrow exec service/web '!web3' --sudo -- systemctl restart nginx
///   regrow exec -i hosts.ini 'prod:!db' --batch 10% --max-failures 2 -- /opt/update
///   regrow exec @hosts --shell -- 'df -h | tail -n +2'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Exec {
    /// Which hosts
    #[arg(value_name = "HOSTS", required = true)]
    hosts: Vec<String>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
    /// Ansible inventory: an INI file, JSON, or a program that prints JSON
    #[arg(long, short, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Most hosts at a time
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    fanout: u16,
    /// Roll in batches of N hosts or N%: the next begins when all of the last have ended
    #[arg(long, value_name = "N|N%")]
    batch: Option<Share>,
    /// Wait between two batches
    #[arg(long, value_name = "DURATION", default_value = "0s", requires = "batch")]
    pause: humantime::Duration,
    /// Begin with no further host once more than N, or N%, have failed. Default: with --batch 0, else all are begun
    #[arg(long, value_name = "N|N%")]
    max_failures: Option<Share>,
    /// Longest that a host may take; what it runs is not stopped there
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: humantime::Duration,
    /// Longest wait for a connection
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    connect_timeout: humantime::Duration,
    /// Run it as root by `sudo -n`, or as USER
    #[arg(long, value_name = "USER", num_args = 0..=1, default_missing_value = "root", require_equals = true)]
    sudo: Option<String>,
    /// Let a shell of the remote side read the command: one word, with pipes and variables
    #[arg(long)]
    shell: bool,
    /// File that each host's command reads as its standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// User to log in as, where nothing else says so
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Port, where nothing else says so
    #[arg(long, short, value_name = "PORT")]
    port: Option<u16>,
    /// Private key, where nothing else says so
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Jump hosts on the way, as `ssh -J` takes them
    #[arg(long, short = 'J', value_name = "HOSTS")]
    jump: Option<String>,
    /// Let the hosts use your ssh agent
    #[arg(long, short = 'A')]
    forward_agent: bool,
    /// Another configuration file for `ssh`
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// A further option, as `ssh -o` takes it
    #[arg(long, short = 'o', value_name = "OPTION")]
    option: Vec<String>,
    /// Host keys that are known beside your own
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
    /// Take and remember the key of a host that is not known; a changed key never is
    #[arg(long)]
    accept_new: bool,
    /// How long connections stay open for the next command; 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    keep: humantime::Duration,
    /// Bytes kept of each host's output, its beginning and its end
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(64..=64 << 20))]
    output_limit: u32,
    /// Show lines as they come, instead of equal results together at the end
    #[arg(long)]
    stream: bool,
    /// List the hosts and what would be run, and end
    #[arg(long)]
    dry_run: bool,
    /// A JSON object for each host as it ends; with --stream also one for each line as it comes
    #[arg(long)]
    json: bool,
}

/// What hosts tell while they run.
enum Told {
    Line(usize, Stream, String),
    Ended(usize, HostResult),
}

impl Exec {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let line = self.line()?;
        let hosts = select::hosts(&self.hosts, self.inventory.as_deref(), target).await?;
        if self.dry_run {
            return show::dry_run(&hosts, &line, self.json);
        }
        let ssh = Ssh::open(self.settings()).map_err(Failure::failed)?;
        let mut show = Show::new(&hosts, self.json, self.stream);
        let results = self.roll(Arc::new(ssh), Arc::new(hosts), line.into(), &mut show).await?;
        let mut tally = Tally::default();
        results.iter().for_each(|result| tally.count(&result.ending));
        show.end(&results, tally)?;
        match tally {
            tally if tally.all_ok() => Ok(()),
            Tally { failed: 0, timed_out: 0, .. } => Err(Failure::new(Code::Unreachable, tally.shown())),
            Tally { failed: 0, .. } => Err(Failure::new(Code::TimedOut, tally.shown())),
            tally => Err(Failure::failed(tally.shown())),
        }
    }

    /// The line for the remote shell.
    fn line(&self) -> Result<String, Failure> {
        let mut words = self.command.clone();
        if self.shell {
            let [script] = words.as_slice() else {
                return Err(Failure::usage(
                    "--shell takes one word, quoted for the shell here: regrow exec HOSTS --shell -- 'df -h | wc -l'",
                ));
            };
            words = vec!["sh".to_owned(), "-c".to_owned(), script.clone()];
        }
        if let Some(user) = &self.sudo {
            words.splice(0..0, ["sudo", "-n", "-u", user, "--"].map(str::to_owned));
        }
        Ok(quoted(&words))
    }

    fn settings(&self) -> Settings {
        Settings {
            config: self.ssh_config.clone(),
            user: self.user.clone(),
            port: self.port,
            identity: self.identity.clone(),
            jump: self.jump.clone(),
            forward_agent: self.forward_agent,
            known_hosts: self.known_hosts.clone(),
            accept_new: self.accept_new,
            options: self.option.clone(),
            connect_timeout: self.connect_timeout.into(),
            keep: self.keep.into(),
        }
    }

    fn pace(&self) -> Pace {
        let strict = self.batch.map(|_| Share::Count(0));
        Pace { fanout: self.fanout.into(), batch: self.batch, max_failures: self.max_failures.or(strict) }
    }

    /// Runs the command everywhere; the results are in the order of the hosts.
    async fn roll(
        &self,
        ssh: Arc<Ssh>,
        hosts: Arc<Vec<Host>>,
        line: Arc<str>,
        show: &mut Show,
    ) -> Result<Vec<HostResult>, Failure> {
        let mut rollout = Rollout::new(hosts.len(), self.pace());
        let mut results: Vec<Option<HostResult>> = hosts.iter().map(|_| None).collect();
        let (sender, mut told) = mpsc::channel(TOLD);
        let mut running = JoinSet::new();
        let mut interrupts = 0;
        loop {
            match rollout.step() {
                Next::Start(at) => {
                    show.begun(at);
                    running.spawn(self.one(ssh.clone(), hosts.clone(), line.clone(), at, sender.clone()));
                    continue;
                }
                Next::BatchEnded => {
                    tokio::select! {
                        () = tokio::time::sleep(self.pause.into()) => rollout.begin_batch(),
                        _ = tokio::signal::ctrl_c() => rollout.stop(),
                    }
                    continue;
                }
                Next::Done => break,
                Next::Wait => {}
            }
            tokio::select! {
                message = told.recv() => match message {
                    Some(Told::Line(at, stream, line)) => show.line(at, stream, &line)?,
                    Some(Told::Ended(at, result)) => {
                        rollout.ended(at, !result.ending.is_ok());
                        show.ended(&result)?;
                        results[at] = Some(result);
                    }
                    None => break,
                },
                _ = tokio::signal::ctrl_c() => {
                    interrupts += 1;
                    rollout.stop();
                    if interrupts > 1 {
                        break;
                    }
                    show.say("No further host is begun. Once more ends the connections of those that run.");
                }
            }
        }
        running.abort_all();
        let ended = |(host, result): (&Host, Option<HostResult>)| {
            result.unwrap_or_else(|| HostResult {
                host: host.name.clone(),
                ending: Ending::NotBegun,
                millis: 0,
                stdout: String::new(),
                stderr: String::new(),
            })
        };
        Ok(hosts.iter().zip(results).map(ended).collect())
    }

    /// One host, to its end.
    fn one(
        &self,
        ssh: Arc<Ssh>,
        hosts: Arc<Vec<Host>>,
        line: Arc<str>,
        at: usize,
        told: mpsc::Sender<Told>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (input, timeout) = (self.input.clone(), Duration::from(self.timeout));
        let (output_bytes_max, stream) = (self.output_limit as usize, self.stream);
        async move {
            let begun = Instant::now();
            let run = Run { line: &line, input: input.as_deref(), timeout, output_bytes_max };
            let (lines, mut coming) = mpsc::unbounded_channel();
            let said = ssh.run(&hosts[at], run, |from, line| {
                if stream {
                    let _ = lines.send((from, line.to_owned()));
                }
            });
            tokio::pin!(said);
            // A slow screen holds the host up, not our memory: nothing is read while lines wait to be told.
            let said = loop {
                tokio::select! {
                    biased;
                    Some((from, line)) = coming.recv() => drop(told.send(Told::Line(at, from, line)).await),
                    said = &mut said => break said,
                }
            };
            while let Ok((from, line)) = coming.try_recv() {
                let _ = told.send(Told::Line(at, from, line)).await;
            }
            let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (ending, stdout, stderr) = (said.ending, said.stdout, said.stderr);
            let result = HostResult { host: hosts[at].name.clone(), ending, millis, stdout, stderr };
            let _ = told.send(Told::Ended(at, result)).await;
        }
    }
}
