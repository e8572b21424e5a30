//! Go's `path` functions that confd's templates use: `Match`, `Clean`, `Base`, `Dir`, `Join`.
//! Source: Go's documentation of package `path`.

/// A pattern that `path.Match` calls malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPattern;

/// Whether `text` as a whole matches `pattern`: `*` is any run of characters other than `/`, `?` one of them, `[a-z]`
/// and `[^a-z]` classes, `\` takes the next character as it is.
///
/// Takes time proportional to the product of both lengths at worst: only the last `*` is ever tried again.
pub(super) fn matches(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    check(&pattern)?;
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return Ok(true);
        }
        if let Some(&c) = text.get(t)
            && let Some(after) = step(&pattern, p, c)
        {
            (p, t) = (after, t + 1);
            continue;
        }
        // The last star takes one character more, unless that is a slash.
        match star {
            Some((after, taken)) if taken < text.len() && text[taken] != '/' => {
                star = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
            _ => return Ok(false),
        }
    }
}

/// The pattern's position after one character of the text, if it fits.
fn step(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => (c != '/').then_some(p + 1),
        '[' => {
            let (fits, after) = class(pattern, p, c).ok()?;
            fits.then_some(after)
        }
        '\\' => (pattern.get(p + 1) == Some(&c)).then_some(p + 2),
        literal => (*literal == c).then_some(p + 1),
    }
}

/// Whether `c` is in the class that begins at `p`, and where the class ends.
fn class(pattern: &[char], p: usize, c: char) -> Result<(bool, usize), BadPattern> {
    let mut at = p + 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut fits = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return Ok((fits != negated, at + 1));
        }
        let low = member(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            high = member(pattern, &mut at)?;
        }
        fits |= low <= c && c <= high;
        ranges += 1;
    }
}

/// One character of a class, with its escape.
fn member(pattern: &[char], at: &mut usize) -> Result<char, BadPattern> {
    let mut c = *pattern.get(*at).ok_or(BadPattern)?;
    if c == '-' || c == ']' {
        return Err(BadPattern);
    }
    if c == '\\' {
        *at += 1;
        c = *pattern.get(*at).ok_or(BadPattern)?;
    }
    *at += 1;
    // A class is closed further on, or it is malformed.
    if *at >= pattern.len() { Err(BadPattern) } else { Ok(c) }
}

/// Refuses a malformed pattern even where matching would end before its fault.
fn check(pattern: &[char]) -> Result<(), BadPattern> {
    let mut p = 0;
    while p < pattern.len() {
        p = match pattern[p] {
            '\\' if p + 1 == pattern.len() => return Err(BadPattern),
            '\\' => p + 2,
            '[' => class(pattern, p, '\0')?.1,
            _ => p + 1,
        };
    }
    Ok(())
}

/// Whether a key holds characters that mean something to [`matches`].
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// The shortest form of a path: no doubled slashes, no `.`, `..` taken back; `.` for nothing.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The last element of a path: `.` of nothing, `/` of slashes only.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        (false, false) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// All but the last element, cleaned.
pub(super) fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |slash| &path[..=slash]))
}

/// Elements joined by slashes and cleaned; nothing when all are empty.
pub(super) fn join(parts: &[&str]) -> String {
    let joined: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if joined.is_empty() { String::new() } else { clean(&joined.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_is_as_go_documents_it() {
        for (pattern, text, expect) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*/b", "a/c/b", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a?b", "a/b", Ok(false)),
            ("a*b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-]", "-", Ok(true)),
            ("[x\\-]", "-", Ok(true)),
            ("/web/*/ip", "/web/1/ip", Ok(true)),
            ("*x", "xxx", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[-x]", "-", Err(BadPattern)),
            ("\\", "a", Err(BadPattern)),
            ("[a-b-c]", "a", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("[^", "a", Err(BadPattern)),
            ("[^bc", "a", Err(BadPattern)),
            ("a[", "a", Err(BadPattern)),
        ] {
            assert_eq!(matches(pattern, text), expect, "{pattern} against {text}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert_eq!(matches(&"*a".repeat(200), &"a".repeat(5_000).replace('a', "b")), Ok(false));
    }

    #[test]
    fn paths_are_taken_apart_as_go_does() {
        for (path, cleaned, last, folder) in [
            ("/a/b", "/a/b", "b", "/a"),
            ("/a/b/", "/a/b", "b", "/a/b"),
            ("a//b/./c/..", "a/b", "..", "a/b/c"),
            ("/..", "/", "..", "/"),
            ("", ".", ".", "."),
            ("/", "/", "/", "/"),
            ("abc", "abc", "abc", "."),
            ("../x", "../x", "x", ".."),
        ] {
            assert_eq!(clean(path), cleaned, "clean {path}");
            assert_eq!(base(path), last, "base {path}");
            assert_eq!(dir(path), folder, "dir {path}");
        }
        assert_eq!(join(&["/", "prod", "/nginx/"]), "/prod/nginx");
        assert_eq!(join(&["", ""]), "");
    }
}
