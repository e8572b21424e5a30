//! Functions that make text of text, and the engine's own ones with a bound on what they build.

use super::functions::{CALL_STEPS, Called, all, fault, from_json, int, list, paid, string, text};
use crate::features::template::render::context::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gotmpl::{FuncMap, Template, Value};
use std::sync::{Arc, OnceLock};

/// Most arguments of `print`, `printf` and `println`.
const PRINT_ARGUMENTS_MAX: usize = 64;

/// Most that one verb of `printf` adds by its width or precision: the engine's own bound.
const PRINT_WIDTH_MAX: u64 = 1 << 16;

type Answer = Result<Value, String>;

/// confd's functions on text.
pub(super) fn call(context: &Context, name: &str, args: &[Value]) -> Answer {
    let string = |at: usize| string(args, at);
    let build = |bytes: usize| context.budget.build(bytes as u64);
    Ok(match name {
        "toUpper" => {
            build(3 * string(0)?.len())?;
            text(string(0)?.to_uppercase())
        }
        "toLower" => {
            build(3 * string(0)?.len())?;
            text(string(0)?.to_lowercase())
        }
        "contains" => Value::Bool(string(0)?.contains(string(1)?)),
        "trimSuffix" => text(string(0)?.strip_suffix(string(1)?).unwrap_or(string(0)?)),
        "replace" => text(replace(context, string(0)?, string(1)?, string(2)?, int(args, 3)?)?),
        "split" => {
            let parts = split(string(0)?, string(1)?);
            build(string(0)?.len() + parts.len() * size_of::<Value>())?;
            all(parts.into_iter().map(text))
        }
        "join" => {
            let parts = list(args, 0)?.iter().map(|part| part.as_str().ok_or("an element is not a string"));
            let parts = parts.collect::<Result<Vec<&str>, &str>>()?;
            let separators = parts.len().saturating_mul(string(1)?.len());
            build(separators.saturating_add(parts.iter().map(|part| part.len()).sum()))?;
            text(parts.join(string(1)?))
        }
        "json" => match serde_json::from_str(string(0)?) {
            Ok(value @ (serde_json::Value::Object(_) | serde_json::Value::Null)) => paid(context, from_json(&value))?,
            Ok(_) => return Err("the text is JSON, but no object: for a list use jsonArray".to_owned()),
            Err(error) => return Err(format!("the text is not JSON: {error}")),
        },
        "jsonArray" => match serde_json::from_str(string(0)?) {
            Ok(value @ (serde_json::Value::Array(_) | serde_json::Value::Null)) => paid(context, from_json(&value))?,
            Ok(_) => return Err("the text is JSON, but no list: for an object use json".to_owned()),
            Err(error) => return Err(format!("the text is not JSON: {error}")),
        },
        "base64Encode" => {
            build(2 * string(0)?.len())?;
            text(STANDARD.encode(string(0)?))
        }
        "base64Decode" => {
            build(string(0)?.len())?;
            let bytes = STANDARD.decode(string(0)?).map_err(|error| format!("the text is not base64: {error}"))?;
            text(String::from_utf8(bytes).map_err(|_| "the decoded value is not UTF-8 text".to_owned())?)
        }
        "parseBool" => Value::Bool(match string(0)? {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            other => return Err(format!("`{other}` is neither true nor false")),
        }),
        "atoi" => {
            let digits = string(0)?;
            Value::Int(digits.parse().map_err(|_| format!("`{digits}` is not a whole number"))?)
        }
        other => return Err(format!("no function is called `{other}`")),
    })
}

/// Go's `strings.Replace`: the first `count` places, all when it is negative; an empty `old` is before every
/// character and at the end.
fn replace(context: &Context, from: &str, old: &str, new: &str, count: i64) -> Result<String, String> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let places = if old.is_empty() { from.chars().count() + 1 } else { from.matches(old).count() }.min(most);
    context.budget.build((from.len() as u64).saturating_add((places as u64).saturating_mul(new.len() as u64)))?;
    Ok(from.replacen(old, new, places))
}

/// Go's `strings.Split`: an empty separator splits after each character.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    match separator {
        "" => text.split_inclusive(|_: char| true).collect(),
        separator => text.split(separator).collect(),
    }
}

/// Puts bounded ones in place of the engine's functions that build text.
pub(super) fn bounded(table: &mut FuncMap, context: &Arc<Context>) {
    for (name, growth) in [("html", 6), ("js", 12), ("urlquery", 3), ("print", 1), ("println", 1)] {
        let context = context.clone();
        table.insert(
            name.to_owned(),
            Arc::new(move |args: &[Value]| {
                let bytes = args.iter().map(|arg| printed(arg) + 1).fold(0u64, u64::saturating_add);
                engine(&context, name, args, bytes.saturating_mul(growth))
            }),
        );
    }
    let context = context.clone();
    table.insert(
        "printf".to_owned(),
        Arc::new(move |args: &[Value]| {
            let format = args.first().and_then(Value::as_str);
            let bytes = format.map_or(0, |format| formatted(format, &args[1..]));
            engine(&context, "printf", args, bytes)
        }),
    );
}

/// A bound on what `printf` makes: each verb shows some argument, quoted at worst.
fn formatted(format: &str, args: &[Value]) -> u64 {
    let verbs = format.matches('%').count() as u64;
    let wide = format.contains(|c: char| c.is_ascii_digit() || c == '*');
    let largest = args.iter().map(printed).max().unwrap_or(0);
    let one = largest.saturating_mul(6).saturating_add(32).saturating_add(if wide { PRINT_WIDTH_MAX } else { 0 });
    let rest: u64 = args.iter().map(printed).fold(0, u64::saturating_add);
    verbs.saturating_mul(one).saturating_add(format.len() as u64).saturating_add(rest)
}

/// Bytes that a value takes, printed or kept, about; counts no further than anyone can pay.
pub(super) fn printed(value: &Value) -> u64 {
    fn count(value: &Value, left: &mut u64) {
        let own = match value {
            Value::String(text) => text.len() as u64,
            _ => 64,
        };
        *left = left.saturating_sub(own + 1);
        match value {
            Value::List(list) => list
                .iter()
                .take_while(|value| {
                    count(value, left);
                    *left > 0
                })
                .for_each(drop),
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    *left = left.saturating_sub(key.len() as u64);
                    count(value, left);
                    if *left == 0 {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    let most = 2 * super::super::budget::BUILT_BYTES_MAX;
    let mut left = most;
    count(value, &mut left);
    most - left
}

/// Calls the engine's own function through a small source that applies it to a list; it builds `most` bytes at most.
fn engine(context: &Context, name: &str, args: &[Value], most: u64) -> Called {
    if args.len() > PRINT_ARGUMENTS_MAX {
        return Err(fault(format!("{name} takes at most {PRINT_ARGUMENTS_MAX} arguments, not {}", args.len())));
    }
    context.budget.step(CALL_STEPS).and_then(|()| context.budget.could_build(most)).map_err(fault)?;
    let built = applied(name, args.len()).execute_to_string(&Value::List(args.into()))?;
    context.budget.build(built.len() as u64).map_err(fault)?;
    Ok(text(built))
}

/// `{{name (index . 0) (index . 1) …}}`, parsed once for each name and number of arguments.
fn applied(name: &str, count: usize) -> &'static Template {
    const NAMES: [&str; 6] = ["html", "js", "urlquery", "print", "println", "printf"];
    static PARSED: [[OnceLock<Template>; PRINT_ARGUMENTS_MAX + 1]; 6] =
        [const { [const { OnceLock::new() }; PRINT_ARGUMENTS_MAX + 1] }; 6];
    let row = NAMES.iter().position(|known| *known == name).expect("one of the bounded functions");
    PARSED[row][count].get_or_init(|| {
        let arguments: String = (0..count).map(|at| format!(" (index . {at})")).collect();
        Template::new(name).parse(&format!("{{{{{name}{arguments}}}}}")).expect("a call of a function is well-formed")
    })
}
