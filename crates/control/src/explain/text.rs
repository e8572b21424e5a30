//! Explanations as people read them.

use super::Explanation;
use crate::features::span;
use regrow_model::Time;
use regrow_model::plan::{Held, Rule};
use std::fmt;

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.object, self.summary)?;
        section(f, "Now", &self.now)?;
        if !self.chain.is_empty() {
            writeln!(f, "\nHow it came to that")?;
            let width = self.chain.iter().map(|step| step.object.to_string().len()).max().unwrap_or(0);
            for step in &self.chain {
                let (at, object, kind) = (clock(step.at), &step.object, &step.kind);
                writeln!(f, "  {at}  {object:width$}  {kind:15}  {}", step.message)?;
                for line in step.detail.iter().flat_map(|detail| detail.lines()) {
                    writeln!(f, "                | {line}")?;
                }
            }
        }
        section(f, "Waiting", &self.waiting)
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}

/// What is held and why, in one line.
pub(super) fn held(held: &Held, now: Time) -> String {
    let rule = rule(held.rule);
    match held.until {
        Some(until) if until > now => format!("{}: {rule} ({}), for another {}", held.what, held.why, ago(now, until)),
        _ => format!("{}: {rule} ({})", held.what, held.why),
    }
}

/// A rule as people say it.
fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::MinHealthy => "the floor of healthy instances",
        Rule::Budget => "the budget of changes",
        Rule::Freeze => "the freeze",
        Rule::SecondSource => "one source is not enough",
        Rule::Quarantine => "the quarantine of a member",
        Rule::Pause => "the pause",
        Rule::Guard => "a guard",
        Rule::Backoff => "the backoff of a crash loop",
        Rule::After => "the order of starts and stops",
        Rule::Drain => "the drain",
        Rule::KnownBad => "a version that failed before",
        Rule::Placement => "no place",
    }
}

/// Time of day in UTC, to the millisecond.
pub(super) fn clock(at: Time) -> String {
    let (seconds, millis) = (at.0 / 1_000 % 86_400, at.0 % 1_000);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// The time from `earlier` to `later`, for people.
pub(super) fn ago(earlier: Time, later: Time) -> String {
    span(later.since(earlier)).to_string()
}
