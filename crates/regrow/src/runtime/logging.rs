//! The log, on standard error: text on a terminal, JSON lines (`ts level msg node cause …`) elsewhere.

use super::clock;
use regrow_model::Name;
use serde_json::{Map, Value};
use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::sync::{Arc, LazyLock};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log. `REGROW_LOG` is the least level that is shown: `error warn info debug trace`; default `info`.
pub(super) fn start(node: Name) {
    let level = std::env::var("REGROW_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(Level::INFO);
    let human = rustix::termios::isatty(std::io::stderr());
    let lines = Lines { node, level, human };
    // A second start within one process keeps the first log.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// Lines kept for a slow follower.
const LINES_KEPT: usize = 1_024;

/// Lines for those who follow the log from within the program, each with its level.
static FOLLOWED: LazyLock<broadcast::Sender<Arc<(Level, String)>>> = LazyLock::new(|| broadcast::channel(LINES_KEPT).0);

/// The lines of the log from now on, whatever `REGROW_LOG` says.
pub(super) fn follow() -> broadcast::Receiver<Arc<(Level, String)>> {
    FOLLOWED.subscribe()
}

struct Lines {
    node: Name,
    level: Level,
    human: bool,
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    /// The message, and what it is about.
    fn whole(&self) -> String {
        let object = self.rest.get("object").and_then(Value::as_str).map(|object| format!("{object}: "));
        format!("{}{}", object.unwrap_or_default(), self.message)
    }
}

/// A level by Serf's word for it, which scripts on its monitor look for.
fn serf_level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.rest.insert(field.name().to_owned(), value.into());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    /// Decided once for each place in the code: libraries open spans for every frame of HTTP/2, and to make and drop
    /// those, seen by nobody, took a third of the time of a request.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level.max(Level::DEBUG)))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let (shown, followed) = (*metadata.level() <= self.level, FOLLOWED.receiver_count() > 0);
        if !shown && !followed {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if followed {
            let line = format!("{} [{}] {}", clock::text(clock::now()), serf_level(*metadata.level()), fields.whole());
            let _ = FOLLOWED.send(Arc::new((*metadata.level(), line)));
        }
        if !shown {
            return;
        }
        let level = metadata.level().as_str().to_lowercase();
        let line = if self.human { text(&level, &fields) } else { self.json(&level, fields) };
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

impl Lines {
    /// Whether a line of ours is for the log, or for those who may follow it at `debug`.
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level.max(Level::DEBUG) && metadata.target().starts_with("regrow")
    }

    fn json(&self, level: &str, fields: Fields) -> String {
        let mut line = Map::new();
        line.insert("ts".to_owned(), (clock::now().0 as f64 / 1000.0).into());
        line.insert("level".to_owned(), level.into());
        line.insert("msg".to_owned(), fields.message.into());
        line.insert("node".to_owned(), self.node.as_str().into());
        line.extend(fields.rest);
        format!("{}\n", Value::Object(line))
    }
}

fn text(level: &str, fields: &Fields) -> String {
    let mut line = format!("{}  ", clock::text(clock::now()));
    if level != "info" {
        let _ = write!(line, "{level}: ");
    }
    if let Some(object) = fields.rest.get("object").and_then(Value::as_str) {
        let _ = write!(line, "{object:<20} ");
    }
    let _ = writeln!(line, "{}", fields.message);
    line
}
