//! Why a source does not render.

use regrow_model::{Name, limits};
use std::fmt;

/// Where in a source: `haproxy.cfg.j2:12:5`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The source, as the spec names it.
    pub file: String,
    /// Line, from 1; `None` when the engine cannot tell.
    pub line: Option<usize>,
    /// Column in characters, from 1; `None` when the engine cannot tell.
    pub column: Option<usize>,
}

impl Place {
    /// The file as a whole.
    pub(super) fn file(file: &str) -> Place {
        Place { file: file.to_owned(), line: None, column: None }
    }

    /// The place of a byte of `text`.
    pub(super) fn at(file: &str, text: &str, offset: usize) -> Place {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: file.to_owned(),
            line: Some(before.matches('\n').count() + 1),
            column: Some(before[line_start..].chars().count() + 1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        Ok(())
    }
}

/// Why a template does not render. The user's fault, always: nothing has changed, and trying again with the same
/// inputs gives the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no such template in the view.
    #[error("no template is called `{name}`{hint}")]
    Unknown {
        /// What was asked for.
        name: Name,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// The source is not written in its language.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong, and where it can be told what to write instead.
        message: String,
    },
    /// The source asks for something that is not there or cannot be done.
    #[error("{place}: {message}")]
    Evaluation {
        /// Where.
        place: Place,
        /// What is wrong, and where it can be told what to do about it.
        message: String,
    },
    /// The result is larger than [`limits::RENDERED_BYTES_MAX`].
    #[error("{file}: renders to more than {} bytes", limits::RENDERED_BYTES_MAX)]
    TooLarge {
        /// The source.
        file: String,
    },
    /// The record itself does not hold together: a mode that is not octal, fewer sources than files.
    #[error("{what}")]
    Record {
        /// What is wrong with it.
        what: String,
    },
}

/// `; did you mean …?` when one of `known` is close to `given`, else nothing.
pub(super) fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = given.chars().count() / 3 + 1;
    let close = known.into_iter().map(|name| (distance(given, name), name)).min();
    match close {
        Some((steps, name)) if steps <= limit => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance of the first 64 characters: names are no longer.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in right.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "é\nüx{{";
        assert_eq!(Place::at("a.j2", text, text.find("{{").unwrap()).to_string(), "a.j2:2:3");
        assert_eq!(Place::at("a.j2", text, 0).to_string(), "a.j2:1:1");
        assert_eq!(Place::at("a.j2", text, 999).to_string(), "a.j2:2:5", "past the end is the end");
        assert_eq!(Place::file("a.j2").to_string(), "a.j2");
    }

    #[test]
    fn a_hint_names_what_is_close_and_nothing_else() {
        assert_eq!(hint("wbe", ["api", "web"]), "; did you mean `web`?");
        assert_eq!(hint("database", ["api", "web"]), "");
        assert_eq!(hint("x", []), "");
    }
}
