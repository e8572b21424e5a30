//! `${NAME}` in the words of a group's command.

/// What Regrow itself gives each instance, in its command and in its environment.
pub const GIVEN: [&str; 5] = ["PORT", "ADDRESS", "INSTANCE", "GROUP", "SLOT"];

/// Why a word of a command cannot be expanded. The user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Nothing of that name is known.
    #[error("`${{{name}}}` is not known here")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// `${` without its `}`.
    #[error("`${{` is never closed")]
    Unclosed,
}

/// Replaces each `${NAME}` of a word by what `lookup` says, and `$$` by a dollar sign. Any other `$` stays.
///
/// What was put in is not looked at again, so a value cannot name another.
pub fn expand<'v>(word: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(inside) = after.strip_prefix('{') {
            let (name, behind) = inside.split_once('}').ok_or(ExpandError::Unclosed)?;
            out.push_str(lookup(name).ok_or_else(|| ExpandError::Unknown { name: name.to_owned() })?);
            rest = behind;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows each form of a dollar sign, and that values are not expanded again.
    #[test]
    fn words() {
        let lookup = |name: &str| match name {
            "PORT" => Some("8080"),
            "TRICK" => Some("${PORT}"),
            _ => None,
        };
        let unknown = |name: &str| Err(ExpandError::Unknown { name: name.to_owned() });
        let table = [
            ("--port=${PORT}", Ok("--port=8080".to_owned())),
            ("${PORT}${PORT}", Ok("80808080".to_owned())),
            ("$PORT costs 5$", Ok("$PORT costs 5$".to_owned())),
            ("$${PORT} $$", Ok("${PORT} $".to_owned())),
            ("${TRICK}", Ok("${PORT}".to_owned())),
            ("", Ok(String::new())),
            ("${port}", unknown("port")),
            ("${}", unknown("")),
            ("a ${PORT", Err(ExpandError::Unclosed)),
        ];
        for (word, expected) in table {
            assert_eq!(expand(word, lookup), expected, "{word}");
        }
    }
}
