//! The answers to a job's survey: checked, and as data for its texts.

use super::{Job, Parameter, ParameterType};
use crate::limits::{PARAMETER_BYTES_MAX, PARAMETER_ITEMS_MAX};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Values of parameters by name: text, whole numbers, `true` or `false`, lists of text.
pub type Answers = Map<String, Value>;

/// Why a value is refused. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It has no default and was not given.
    #[error("the parameter `{0}` is missing")]
    Missing(String),
    /// The job has no such parameter.
    #[error("there is no parameter `{name}`{}", listed(.known))]
    Unknown {
        /// What was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It does not fit.
    #[error("the parameter `{name}` {why}")]
    Unfit {
        /// Which.
        name: String,
        /// Why not; the value itself is not repeated, it may be hostile or secret.
        why: String,
    },
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { ": the job has none".to_owned() } else { format!(": there are {}", known.join(", ")) }
}

impl Job {
    /// Checks what a run is given and adds the defaults. All errors, in the order of the parameters' names.
    pub fn answers(&self, given: &BTreeMap<String, Value>) -> Result<Answers, Vec<AnswerError>> {
        let mut errors = Vec::new();
        let mut answers = Answers::new();
        for name in given.keys().filter(|name| !self.parameters.contains_key(*name)) {
            let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
            errors.push(AnswerError::Unknown { name, known: self.parameters.keys().cloned().collect() });
        }
        for (name, parameter) in &self.parameters {
            match given.get(name).filter(|value| !value.is_null()).or(parameter.default.as_ref()) {
                None => errors.push(AnswerError::Missing(name.clone())),
                Some(value) => match parameter.read(value) {
                    Ok(value) => drop(answers.insert(name.clone(), value)),
                    Err(why) => errors.push(AnswerError::Unfit { name: name.clone(), why }),
                },
            }
        }
        if errors.is_empty() { Ok(answers) } else { Err(errors) }
    }
}

impl Parameter {
    /// Checks one value and brings it into its own form. Text is read as a number, a truth value or a list where one is
    /// wanted, because forms send only text.
    pub fn read(&self, value: &Value) -> Result<Value, String> {
        match self.sort {
            ParameterType::Integer => {
                let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
                let number = number.ok_or("must be a whole number")?;
                self.bounds(number, "")?;
                Ok(Value::from(number))
            }
            ParameterType::Boolean => match (value, value.as_str()) {
                (Value::Bool(_), _) => Ok(value.clone()),
                (_, Some("true")) => Ok(Value::Bool(true)),
                (_, Some("false")) => Ok(Value::Bool(false)),
                _ => Err("must be `true` or `false`".to_owned()),
            },
            ParameterType::List => {
                let items: Vec<String> = match value {
                    Value::String(text) if text.trim().is_empty() => Vec::new(),
                    Value::String(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
                    Value::Array(items) => items
                        .iter()
                        .map(|item| item.as_str().map(str::to_owned))
                        .collect::<Option<_>>()
                        .ok_or("must be a list of names")?,
                    _ => return Err("must be a list of names".to_owned()),
                };
                if items.len() > PARAMETER_ITEMS_MAX {
                    return Err(format!("has {} items; it may have {PARAMETER_ITEMS_MAX}", items.len()));
                }
                self.bounds(i64::try_from(items.len()).unwrap_or(i64::MAX), " items")?;
                for item in &items {
                    // Hosts are names too, as far as their letters go.
                    if !is_host(item) {
                        return Err("has an item that is not a name".to_owned());
                    }
                    self.choice(item)?;
                }
                Ok(Value::from(items))
            }
            ParameterType::Text | ParameterType::Lines | ParameterType::Host | ParameterType::Name => {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return Err("must be text".to_owned()),
                };
                self.text(&text)?;
                Ok(Value::String(text))
            }
        }
    }

    fn text(&self, text: &str) -> Result<(), String> {
        if text.len() > PARAMETER_BYTES_MAX {
            return Err(format!("has {} bytes; it may have {PARAMETER_BYTES_MAX}", text.len()));
        }
        let fits = match self.sort {
            ParameterType::Lines => !text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')),
            ParameterType::Host => is_host(text),
            ParameterType::Name => is_name(text),
            _ => !text.contains(char::is_control),
        };
        if !fits {
            return Err(match self.sort {
                ParameterType::Host => "is not the name or address of a host".to_owned(),
                ParameterType::Name => "is not a name".to_owned(),
                _ => "has a control character in it".to_owned(),
            });
        }
        self.bounds(i64::try_from(text.chars().count()).unwrap_or(i64::MAX), " characters")?;
        self.choice(text)
    }

    fn choice(&self, text: &str) -> Result<(), String> {
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == text) {
            return Err(format!("must be one of {}", self.choices.join(", ")));
        }
        if let Some(pattern) = &self.pattern {
            // Validation has compiled it; one that does not compile here lets nothing through.
            let whole = regex::Regex::new(&format!("^(?:{pattern})$"));
            if !whole.is_ok_and(|whole| whole.is_match(text)) {
                return Err(format!("does not match {pattern}"));
            }
        }
        Ok(())
    }

    fn bounds(&self, number: i64, unit: &str) -> Result<(), String> {
        if self.min.is_some_and(|min| number < min) || self.max.is_some_and(|max| number > max) {
            return Err(match (self.min, self.max) {
                (Some(min), Some(max)) => format!("must be {min} to {max}{unit}"),
                (Some(min), None) => format!("must be at least {min}{unit}"),
                (_, max) => format!("must be at most {}{unit}", max.unwrap_or_default()),
            });
        }
        Ok(())
    }
}

/// What a host may be called: nothing that begins an option, a path, a pattern or a file of names.
pub fn is_host(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    (1..=253).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(fits)
        && !text.contains("..")
}

/// What roles, tags and modules may be called.
pub fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=63).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(fits)
        && !text.contains("..")
}

/// A value as the text that takes its place; `None` for a list, which has several.
pub fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A value as one text; the items of a list have commas between them.
pub fn text(value: &Value) -> String {
    let items = || value.as_array().into_iter().flatten().filter_map(Value::as_str);
    shown(value).unwrap_or_else(|| items().collect::<Vec<_>>().join(","))
}
