//! What people see: progress while it runs, equal results together at the end.

use crate::exit::{Failure, colours, print, say};
use regrow_control::exec::Target;
use regrow_control::exec::hosts::fold;
use regrow_control::exec::report::{Ending, HostResult, Tally, grouped};
use regrow_effects::ssh::Stream;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// Time between two progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Show {
    names: Vec<String>,
    json: bool,
    stream: bool,
    /// Progress goes to standard error when that is a terminal.
    progress: bool,
    colours: bool,
    width: usize,
    tally: Tally,
    running: BTreeMap<String, Instant>,
    shown: Option<Instant>,
    begun: Instant,
}

impl Show {
    pub(super) fn new(hosts: &[Target], json: bool, stream: bool) -> Show {
        let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
        Show {
            width: names.iter().map(String::len).max().unwrap_or_default(),
            names,
            json,
            stream,
            progress: rustix::termios::isatty(std::io::stderr()),
            colours: colours(),
            tally: Tally::default(),
            running: BTreeMap::new(),
            shown: None,
            begun: Instant::now(),
        }
    }

    pub(super) fn begun(&mut self, at: usize) {
        self.running.insert(self.names[at].clone(), Instant::now());
        self.tick();
    }

    pub(super) fn line(&mut self, at: usize, stream: Stream, line: &str) -> Result<(), Failure> {
        self.wipe();
        if self.json {
            let from = if stream == Stream::Stderr { "stderr" } else { "stdout" };
            let line = serde_json::json!({"host": self.names[at], "stream": from, "line": line});
            return print(&format!("{line}\n"));
        }
        let mark = if stream == Stream::Stderr { '!' } else { '|' };
        print(&format!("{:width$} {mark} {line}\n", self.names[at], width = self.width))
    }

    pub(super) fn ended(&mut self, result: &HostResult) -> Result<(), Failure> {
        self.running.remove(&result.host);
        self.tally.count(&result.ending);
        if self.json {
            self.wipe();
            let text = serde_json::to_string(result)
                .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
            print(&(text + "\n"))?;
        } else if self.stream && !result.ending.is_ok() {
            self.wipe();
            print(&format!("{:width$} = {}\n", result.host, result.ending.shown(), width = self.width))?;
        }
        self.tick();
        Ok(())
    }

    pub(super) fn say(&mut self, text: &str) {
        self.wipe();
        say(text);
    }

    /// The results of all, unless they were shown as they came.
    pub(super) fn end(&mut self, results: &[HostResult], tally: Tally) -> Result<(), Failure> {
        self.wipe();
        if self.json {
            for result in results.iter().filter(|result| result.ending == Ending::NotBegun) {
                self.ended(result)?;
            }
            return Ok(());
        }
        if !self.stream {
            for group in grouped(results) {
                let count = match group.hosts.len() {
                    1 => String::new(),
                    count => format!(" ({count} hosts)"),
                };
                let head = format!("── {}{count}: {}", fold(group.hosts.iter().copied()), group.ending.shown());
                print(&format!("{}\n", self.painted(&head, group.ending)))?;
                for text in [group.stdout, group.stderr].into_iter().filter(|text| !text.is_empty()) {
                    print(&format!("{text}\n"))?;
                }
            }
        }
        if results.len() > 1 && tally.all_ok() {
            say(format_args!("{} in {:.1} s", tally.shown(), self.begun.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    fn painted(&self, text: &str, ending: &Ending) -> String {
        let colour = match ending {
            Ending::Exited { exit: 0 } => "32",
            Ending::NotBegun => "33",
            _ => "31",
        };
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn tick(&mut self) {
        if !self.progress || self.shown.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let done = self.tally.ok + self.tally.failed + self.tally.unreachable + self.tally.timed_out;
        let slowest = self.running.iter().min_by_key(|(_, begun)| **begun);
        let slowest = slowest.filter(|(_, begun)| begun.elapsed() > Duration::from_secs(1));
        let slowest = slowest.map(|(host, begun)| format!(", {host} since {} s", begun.elapsed().as_secs()));
        let tally = if done == 0 { String::new() } else { format!(": {}", self.tally.shown()) };
        let line = format!(
            "{done}/{} done{tally}, {} running{}",
            self.names.len(),
            self.running.len(),
            slowest.unwrap_or_default()
        );
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }

    fn wipe(&mut self) {
        if self.progress && self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// What would be run, and where.
pub(super) fn dry_run(hosts: &[Target], line: &str, json: bool) -> Result<(), Failure> {
    if json {
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        return crate::exit::print_json(&serde_json::json!({ "hosts": names, "command": line }));
    }
    let folded = fold(hosts.iter().map(|host| host.name.as_str()));
    print(&format!("would run on {} hosts: {folded}\n  {line}\n", hosts.len()))
}
