//! The status as a person reads it.

use super::{InstanceStatus, Overall, Status};
use regrow_model::Time;
use std::fmt::Write;
use std::time::Duration;

/// ANSI colours, or nothing.
struct Paint {
    on: bool,
}

impl Paint {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn state(&self, state: &str, width: usize) -> String {
        let text = format!("{state:<width$}");
        match state {
            "healthy" | "loaded" => self.paint("32", &text),
            "failing" | "backing off" | "exited" | "refused" | "degraded" | "failed" | "dead" | "lost"
            | "unreachable" => self.paint("31", &text),
            _ => self.paint("33", &text),
        }
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Renders the status for a terminal. `colour`: with ANSI colours.
pub fn render(status: &Status, colour: bool) -> String {
    let paint = Paint { on: colour };
    let mut out = String::new();
    header(&mut out, status, &paint);
    members(&mut out, status, &paint);
    for group in &status.groups {
        let title = format!("group/{}", group.name);
        let _ = write!(out, "\n{}  {} of {} healthy", paint.paint("1", &title), group.healthy, group.size);
        let _ = writeln!(out, "{}", paint.dim(&format!("  version {}", group.version)));
        if let Some(rollout) = &group.rollout {
            let _ = writeln!(out, "  {}", paint.paint("33", rollout));
        }
        let width = group.instances.iter().map(|instance| instance.id.to_string().len()).max().unwrap_or(0).max(8);
        for instance in &group.instances {
            line(&mut out, status.at, instance, width, &paint);
        }
    }
    if !status.services.is_empty() {
        let _ = writeln!(out, "\n{}", paint.paint("1", "services"));
        let width = status.services.iter().map(|service| service.name.as_str().len()).max().unwrap_or(0).max(8);
        for service in &status.services {
            let addresses: Vec<&str> = service
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.state == regrow_model::observed::EndpointState::Passing)
                .map(|endpoint| endpoint.address.as_str())
                .collect();
            let shown = addresses.iter().take(6).copied().collect::<Vec<_>>().join(" ");
            let more = if addresses.len() > 6 { format!(" and {} more", addresses.len() - 6) } else { String::new() };
            let count = format!("{} healthy", service.healthy);
            let _ = writeln!(out, "  {:<width$}  {count:<12}{shown}{more}", service.name.as_str());
        }
    }
    if !status.templates.is_empty() {
        let _ = writeln!(out, "\n{}", paint.paint("1", "templates"));
        let width = status.templates.iter().map(|template| template.name.as_str().len()).max().unwrap_or(0).max(8);
        for template in &status.templates {
            let digest = template.digest.as_deref().unwrap_or("-");
            let since = template.since.map(|at| format!("{} ago", span(status.at.since(at)))).unwrap_or_default();
            let state = paint.state(&template.state, 9);
            let _ = writeln!(out, "  {:<width$}  {state} {}  {since}", template.name.as_str(), paint.dim(digest));
            if let Some(problem) = &template.problem {
                let _ = writeln!(out, "{}", indent(problem, width + 4));
            }
        }
    }
    if !status.waiting.is_empty() {
        let _ = writeln!(out, "\n{}", paint.paint("1", "waiting"));
        for waiting in status.waiting.iter().take(10) {
            let until = waiting
                .until
                .filter(|until| *until > status.at)
                .map(|until| format!(", for {} more", span(until.since(status.at))))
                .unwrap_or_default();
            let _ = writeln!(out, "  {}: {}: {}{until}", waiting.object, waiting.what, waiting.why);
        }
        if status.waiting.len() > 10 {
            let _ = writeln!(out, "  and {} more: --json has them all", status.waiting.len() - 10);
        }
    }
    out
}

fn header(out: &mut String, status: &Status, paint: &Paint) {
    let Some(cluster) = &status.cluster else {
        let _ = writeln!(out, "No spec was applied yet: `regrow apply regrow.yaml` does it.");
        return;
    };
    let word = match status.health {
        Overall::Empty => "empty",
        Overall::Healthy => "healthy",
        Overall::Changing => "changing",
        Overall::Degraded => "degraded",
    };
    let _ = write!(out, "{}  {}", paint.paint("1", cluster.as_str()), paint.state(word, 0));
    let nodes = if status.nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", status.nodes.len()) };
    let _ = writeln!(out, "{}", paint.dim(&format!("  {nodes}, revision {}", status.revision)));
    if let Some(why) = &status.paused {
        let text = format!("PAUSED: {why}. Planned changes wait until `regrow resume`.");
        let _ = writeln!(out, "{}", paint.paint("1;33", &text));
    }
    if status.halting {
        let _ = writeln!(out, "{}", paint.paint("1;33", "Everything is being stopped."));
    }
}

/// Members that are not as they should be.
fn members(out: &mut String, status: &Status, paint: &Paint) {
    for member in status.members.iter().filter(|member| member.state != "alive") {
        let since = span(status.at.since(member.since));
        let reason = member.reason.as_deref().unwrap_or_default();
        let state = paint.state(&member.state, 0);
        let _ = writeln!(out, "node/{}  {state} for {since}: {reason}", member.name);
    }
}

fn line(out: &mut String, now: Time, instance: &InstanceStatus, width: usize, paint: &Paint) {
    let state = paint.state(&instance.state, 11);
    let since = instance.since.map(|since| span(now.since(since))).unwrap_or_default();
    let pid = instance.pid.map(|pid| format!("pid {pid}")).unwrap_or_default();
    let lives = if instance.incarnation > 1 { format!("life {}", instance.incarnation) } else { String::new() };
    let id = instance.id.to_string();
    let text = format!("  {id:<width$}  {state} {since:>7}  :{:<5}  {pid:<11}  {lives}", instance.port);
    let _ = writeln!(out, "{}", text.trim_end());
    if let Some(reason) = &instance.reason {
        let _ = writeln!(out, "{}", indent(reason, width + 4));
    }
}

fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    text.trim_end().lines().map(|line| format!("{pad}{line}")).collect::<Vec<_>>().join("\n")
}

/// A span of time in at most two units: `850ms`, `12s`, `4m 2s`, `3h 7m`, `2d 4h`.
pub(super) fn span(length: Duration) -> String {
    let (ms, s) = (length.as_millis(), length.as_secs());
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}
