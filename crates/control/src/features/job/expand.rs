//! Answers in the texts of a job, always as data.

use super::OrderError;
use regrow_model::limits::{JOB_HOSTS_MAX, PARAMETER_ITEMS_MAX};
use regrow_model::spec::command::expand;
use regrow_model::spec::survey::{Answers, text};
use serde_json::Value;
use std::collections::BTreeMap;

/// Answers as the texts that take the places of their names.
pub(super) struct Texts<'a> {
    answers: &'a Answers,
    plain: BTreeMap<&'a str, String>,
}

impl<'a> Texts<'a> {
    pub(super) fn of(answers: &'a Answers) -> Texts<'a> {
        let plain = answers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        Texts { answers, plain }
    }

    /// One text; a list in it is joined by commas.
    pub(super) fn text(&self, text: &str) -> Result<String, OrderError> {
        self.with(text, |value| value.to_owned())
    }

    /// One text with each answer changed on its way in.
    pub(super) fn with(&self, text: &str, change: impl Fn(&str) -> String) -> Result<String, OrderError> {
        let changed: BTreeMap<&str, String> = self.plain.iter().map(|(name, text)| (*name, change(text))).collect();
        expand(text, |name| changed.get(name).map(String::as_str)).map_err(|error| OrderError::Text(error.to_string()))
    }

    /// A text that becomes one for each item of the first list in it.
    pub(super) fn many(&self, text: &str) -> Result<Vec<String>, OrderError> {
        let list = self.answers.iter().find_map(|(name, value)| match value {
            Value::Array(items) if text.contains(&format!("${{{name}}}")) => Some((name.as_str(), items)),
            _ => None,
        });
        let Some((list, items)) = list else { return Ok(vec![self.text(text)?]) };
        let one = |item: &Value| {
            let item = item.as_str().unwrap_or_default();
            let lookup = |name: &str| if name == list { Some(item) } else { self.plain.get(name).map(String::as_str) };
            expand(text, lookup).map_err(|error| OrderError::Text(error.to_string()))
        };
        items.iter().take(PARAMETER_ITEMS_MAX).map(one).collect()
    }

    /// Texts, each of which may become several.
    pub(super) fn all(&self, texts: &[String]) -> Result<Vec<String>, OrderError> {
        let mut out = Vec::new();
        for text in texts {
            out.extend(self.many(text)?);
            if out.len() > JOB_HOSTS_MAX {
                return Err(OrderError::Text(format!("there are more than {JOB_HOSTS_MAX} items")));
            }
        }
        Ok(out)
    }

    /// The words of a command. A word that begins with an answer may not become an option, unless it stands behind
    /// `--`.
    pub(super) fn words(&self, words: &[String]) -> Result<Vec<String>, OrderError> {
        let mut out = Vec::new();
        let mut options_ended = false;
        for word in words {
            for expanded in self.many(word)? {
                if word.starts_with("${") && expanded.starts_with('-') && !options_ended {
                    return Err(OrderError::Option { word: word.clone() });
                }
                out.push(expanded);
            }
            options_ended |= word == "--";
        }
        Ok(out)
    }
}

/// A value as a part of a URL (RFC 3986 §2.1).
pub(super) fn percent(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // A whole segment of dots would be a way up.
    if out.bytes().all(|b| b == b'.') { out.replace('.', "%2E") } else { out }
}

/// A value as the inside of a JSON string.
pub(super) fn json(value: &str) -> String {
    let text = Value::String(value.to_owned()).to_string();
    text[1..text.len() - 1].to_owned()
}
