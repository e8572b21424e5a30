//! YAML that means the same to everybody: flow style, every text in double quotes and in ASCII (YAML 1.2, §7.3.1).

use serde_json::Value;
use std::fmt::Write;

/// Whether Ansible may find a template in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It may.
    Author,
    /// It is data.
    Data,
}

/// A value in flow style.
pub(super) fn value(value: &Value, trust: Trust) -> String {
    let mut out = String::new();
    write_value(value, trust, &mut out);
    out
}

/// A text in double quotes.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            // Neither can be refused: a string takes everything.
            c if u32::from(c) < 0x1_0000 => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => drop(write!(out, "\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn write_value(value: &Value, trust: Trust, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(string) => {
            if trust == Trust::Data {
                out.push_str("!unsafe ");
            }
            out.push_str(&text(string));
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_value(item, trust, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (at, (name, item)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(&text(name));
                out.push_str(": ");
                write_value(item, trust, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Shows that no text leaves its quotes, that data says so, and that what YAML has no letter for is escaped.
    #[test]
    fn texts() {
        assert_eq!(value(&json!("a\": b\n- !x {{ y }}"), Trust::Data), r#"!unsafe "a\": b\u000A- !x {{ y }}""#);
        assert_eq!(text("é\u{85}\u{2028}\u{7f}😀\\"), r#""\u00E9\u0085\u2028\u007F\U0001F600\\""#);
        let all = json!({"a": [1, true, null, "x"]});
        assert_eq!(value(&all, Trust::Author), r#"{"a": [1, true, null, "x"]}"#);
    }
}
