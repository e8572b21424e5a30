//! An error in a spec, with its place.

use super::tree::{At, Place};
use crate::limits::DIAGNOSTICS_MAX;
use serde::Serialize;

/// Most characters of a source line that are shown: a spec may be one line of megabytes.
const LINE_SHOWN_MAX: usize = 120;
/// Characters shown before the error in a line that is cut.
const LINE_BEFORE: usize = 30;
/// Most characters of the user's own text that a message repeats.
const QUOTED_MAX: usize = 60;

/// One error in a spec: what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{message}", self.position())]
pub struct Diagnostic {
    /// The file as the caller named it; empty when there is none.
    pub file: String,
    /// Line, from 1; 0 when it is about no place in the file.
    pub line: u32,
    /// Column in characters, from 1; 0 when it is about no place in the file.
    pub column: u32,
    /// Where in the spec, `groups.web.size` or `services.web.checks[0]`; empty for the spec as a whole.
    pub path: String,
    /// What is wrong and why: a lower-case fragment.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The offending text in the file: offset and length in bytes.
    pub span: (usize, usize),
}

impl Diagnostic {
    /// An error at a place of a file.
    pub(super) fn at(
        name: &str,
        text: &str,
        place: Place,
        path: String,
        message: String,
        help: Option<String>,
    ) -> Self {
        let start = boundary(text, place.start);
        let end = boundary(text, place.end.max(start));
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Diagnostic {
            file: name.to_owned(),
            line: u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column_in(&before[line_start..]) + 1).unwrap_or(u32::MAX),
            path,
            message,
            help,
            span: (start, end - start),
        }
    }

    /// An error that is about no place.
    pub(super) fn nowhere(message: String, help: Option<String>) -> Self {
        Diagnostic { file: String::new(), line: 0, column: 0, path: String::new(), message, help, span: (0, 0) }
    }

    /// `file:line:column: `, as far as they are known.
    fn position(&self) -> String {
        match (self.file.as_str(), self.line) {
            ("", _) => String::new(),
            (file, 0) => format!("{}: ", shown(file)),
            (file, line) => format!("{}:{line}:{}: ", shown(file), self.column),
        }
    }

    /// For people: the message, the place, the line with a pointer to the error, and the help. Ends with a newline.
    ///
    /// `text`: the file's text, as it was loaded. `color`: with ANSI colours.
    pub fn render(&self, text: &str, color: bool) -> String {
        let paint = Paint { color };
        let mut out = format!("{}: {}\n", paint.red("error"), paint.bold(&shown(&self.message)));
        let number = self.line.to_string();
        let margin = " ".repeat(if self.line == 0 { 1 } else { number.len() });
        if !self.file.is_empty() {
            let position = self.position();
            let position = position.trim_end_matches(": ");
            let path = if self.path.is_empty() { String::new() } else { format!(" ({})", shown(&self.path)) };
            out += &format!("{margin}{} {position}{path}\n", paint.blue("-->"));
        }
        if let Some((line, pointer)) = self.excerpt(text) {
            let bar = paint.blue("|");
            let line = if line.is_empty() { line } else { format!(" {line}") };
            out += &format!("{margin} {bar}\n{} {bar}{line}\n", paint.blue(&number));
            out += &format!("{margin} {bar} {}\n", paint.red(&pointer));
        }
        if let Some(help) = &self.help {
            out += &format!("{margin} {} {}: {}\n", paint.blue("="), paint.bold("help"), shown(help));
        }
        out
    }

    /// The line and a row of `^` under the error; `None` when it has no place in `text`.
    fn excerpt(&self, text: &str) -> Option<(String, String)> {
        let (start, length) = self.span;
        if self.line == 0 || start > text.len() {
            return None;
        }
        let start = boundary(text, start);
        let end = boundary(text, start.saturating_add(length));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end();
        let from = column_in(&text[line_start..start]);
        let to = column_in(text[line_start..end.clamp(start, line_end)].trim_end()).max(from + 1);
        let line: Vec<char> = line.trim_start_matches('\u{feff}').chars().map(visible).collect();
        let cut = if line.len() > LINE_SHOWN_MAX { from.saturating_sub(LINE_BEFORE) } else { 0 };
        let mut seen: String = line.iter().skip(cut).take(LINE_SHOWN_MAX).collect();
        let lead = if cut > 0 { "…" } else { "" };
        if line.len() > cut + LINE_SHOWN_MAX {
            seen.push('…');
        }
        let pad = from - cut + lead.chars().count();
        let width = (to - from).min(LINE_SHOWN_MAX.saturating_sub(from - cut)).max(1);
        Some((format!("{lead}{seen}").trim_end().to_owned(), format!("{}{}", " ".repeat(pad), "^".repeat(width))))
    }
}

/// An error whose file is known by its index only.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Wrong {
        Wrong { place, path: String::new(), message: message.into(), help: None }
    }

    pub(super) fn path(self, path: &str) -> Wrong {
        Wrong { path: path.to_owned(), ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Wrong {
        Wrong { help: Some(help.into()), ..self }
    }
}

/// The errors found so far: at most [`DIAGNOSTICS_MAX`], whatever the input.
#[derive(Debug, Default)]
pub(super) struct Wrongs {
    pub(super) list: Vec<Wrong>,
}

impl Wrongs {
    pub(super) fn push(&mut self, wrong: Wrong) {
        if !self.full() {
            self.list.push(wrong);
        }
    }

    /// An error of a value.
    pub(super) fn value(&mut self, at: &At<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.push(Wrong::new(at.place(), message).path(&at.path).help(help));
    }

    /// An error of a key, or of an entry as a whole.
    pub(super) fn key(&mut self, at: &At<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.push(Wrong::new(at.key_place(), message).path(&at.path).help(help));
    }

    /// Enough: looking for more is work without use.
    pub(super) fn full(&self) -> bool {
        self.list.len() >= DIAGNOSTICS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The user's own text inside a message: in backticks, on one line, cut when it is long.
pub(super) fn quoted(text: &str) -> String {
    if text.is_empty() { "`\"\"`".to_owned() } else { format!("`{}`", clipped(text)) }
}

/// The user's own text on one line, cut when it is long.
pub(super) fn clipped(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_MAX).map(visible).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        short.push('…');
    }
    short
}

/// Text without characters that would move a terminal's cursor or change its colours.
fn shown(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// A character, or a stand-in for one that a terminal would obey.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        character if character.is_control() => '\u{fffd}',
        // These reorder what follows them, so that a line reads as something that it is not.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        character => character,
    }
}

/// Characters of the beginning of a line; a byte order mark is none.
fn column_in(line: &str) -> usize {
    line.trim_start_matches('\u{feff}').chars().count()
}

/// The nearest position at or before `at` that is between two characters.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// ANSI colours, or none.
struct Paint {
    color: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn blue(&self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }
}
