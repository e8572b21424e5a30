//! Shows that what is too large, too deep or not for a terminal is refused or made harmless, with its place.

use regrow_model::limits::{DIAGNOSTICS_MAX, OBJECTS_MAX, SPEC_BYTES_MAX, SPEC_DEPTH_MAX, SPEC_FILES_MAX};
use regrow_model::spec::{Diagnostic, SourceFile, load};
use std::fmt::Write as _;

fn errors(text: &str) -> Vec<Diagnostic> {
    load(&[SourceFile { name: "regrow.yaml".to_owned(), text: text.to_owned() }]).expect_err("errors")
}

fn loads(text: &str) -> bool {
    load(&[SourceFile { name: "regrow.yaml".to_owned(), text: text.to_owned() }]).is_ok()
}

#[test]
fn no_file_and_too_many() {
    assert_eq!(load(&[]).expect_err("errors")[0].to_string(), "there is no spec file");
    let file = SourceFile { name: "a".to_owned(), text: String::new() };
    let told = load(&vec![file; SPEC_FILES_MAX + 1]).expect_err("errors")[0].render("", false);
    assert_eq!(told, "error: the spec has 1001 files; it may have 1000\n");
}

#[test]
fn too_many_bytes() {
    let told = errors(&format!("cluster: shop\n#{}", "x".repeat(SPEC_BYTES_MAX)));
    assert_eq!(told[0].to_string(), "regrow.yaml: the spec is larger than 4194304 bytes");
    assert_eq!(told[0].render("", false), "error: the spec is larger than 4194304 bytes\n --> regrow.yaml\n");
}

#[test]
fn too_many_objects() {
    let mut text = "cluster: shop\nservices:\n".to_owned();
    (0..=OBJECTS_MAX).for_each(|n| writeln!(text, "  s{n}: {{}}").expect("text"));
    assert_eq!(errors(&text)[0].message, "`services` has 10001 entries; it may have 10000");
    text.truncate(text.trim_end().rfind('\n').expect("a line") + 1);
    assert!(loads(&text));
}

/// Ten thousand groups in a chain, each after the one before: no recursion, and in linear time.
#[test]
fn a_long_chain_loads() {
    let mut text = "cluster: shop\ngroups:\n  g0: {size: 1, provider: process, command: [x]}\n".to_owned();
    for n in 1..OBJECTS_MAX {
        writeln!(text, "  g{n}: {{size: 1, provider: process, command: [x], after: [group/g{}]}}", n - 1)
            .expect("text");
    }
    assert!(loads(&text));
    let text = text.replacen("command: [x]}", "command: [x], after: [group/g9999]}", 1);
    let told = errors(&text);
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].message,
        "none of these can start first: group/g0 → group/g9999 → group/g9998 → group/g9997 → group/g9996 → group/g9995 \
         → … → group/g5 → group/g4 → group/g3 → group/g2 → group/g1 → group/g0"
    );
}

#[test]
fn aliases_that_grow() {
    let mut text = "cluster: shop\ntemplates:\n  t:\n    source: a\n    destination: b\n    vars:\n      a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let alias = format!("*a{}", n - 1);
        writeln!(text, "      a{n}: &a{n} [{}]", [alias.as_str(); 8].join(", ")).expect("text");
    }
    let told = errors(&text);
    assert_eq!(told.len(), 1);
    assert!(told[0].message.starts_with("the spec grows beyond 500000 values here"), "{}", told[0]);
    assert!(loads(&text[..text.find("      a4").expect("a line")]));
}

#[test]
fn aliases_that_deepen_and_plain_depth() {
    let mut text = "cluster: shop\ntemplates:\n  t:\n    source: a\n    destination: b\n    vars:\n      a0: &a0 [[[[[[[[x]]]]]]]]\n".to_owned();
    for n in 1..10 {
        writeln!(text, "      a{n}: &a{n} [[[[[[[[*a{}]]]]]]]]", n - 1).expect("text");
    }
    let told = errors(&text);
    assert_eq!(told[0].message, format!("values are nested deeper than {SPEC_DEPTH_MAX} levels here"));
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = |n: usize| format!("cluster: {}x{}", open.repeat(n), close.repeat(n));
        assert_eq!(
            errors(&deep(100_000))[0].message,
            format!("values are nested deeper than {SPEC_DEPTH_MAX} levels here")
        );
        assert!(errors(&deep(10))[0].message.starts_with("`cluster` must be a name"));
    }
    let deep: String = (0..100).map(|n| format!("{}- a:\n", " ".repeat(4 * n))).collect();
    assert_eq!(errors(&deep)[0].message, format!("values are nested deeper than {SPEC_DEPTH_MAX} levels here"));
}

/// Errors have an end too, and say so.
#[test]
fn many_errors() {
    let mut text = "cluster: shop\nservices:\n  web:\n".to_owned();
    (0..10_000).for_each(|n| writeln!(text, "    key{n}: 1").expect("text"));
    let told = errors(&text);
    assert!(told.len() <= DIAGNOSTICS_MAX + 1);
    let mut text = "cluster: shop\nservices:\n".to_owned();
    (0..10_000).for_each(|_| text.push_str("  web: {}\n"));
    assert!(errors(&text).len() <= DIAGNOSTICS_MAX + 1);
    let mut text = "cluster: shop\ngroups:\n".to_owned();
    for n in 0..10_000 {
        writeln!(text, "  g{n}: {{service: web, size: 1, provider: process, command: [x]}}").expect("text");
    }
    let told = errors(&text);
    assert_eq!(told.len(), DIAGNOSTICS_MAX + 1);
    assert!(told[DIAGNOSTICS_MAX].message.contains("errors are told at once"), "{}", told[DIAGNOSTICS_MAX]);
}

#[test]
fn nul_characters() {
    let told = errors("cluster: shop\nservices: {web: {tags: [\"a\0\"]}}\n");
    assert_eq!((told[0].line, told[0].column), (2, 27));
    let told = errors("cluster: shop\ngroups: {web: {size: 1, provider: process, command: [\"a\\0b\"]}}\n");
    assert_eq!((told[0].line, told[0].column, told[0].span), (2, 54, (67, 6)));
    assert!(told[0].message.starts_with("there is a NUL character here"), "{}", told[0]);
}

/// Byte order mark, Windows line ends, wide characters: columns are counted in characters, spans in bytes.
#[test]
fn places() {
    let text = "\u{feff}cluster: shop\r\nservices:\r\n  web: {tags: [\"äöü→\"], sise: 1}\r\n";
    let told = errors(text);
    let at = text.find("sise").expect("the key");
    assert_eq!((told[0].line, told[0].column, told[0].span), (3, 25, (at, 4)));
    assert_eq!(told[0].path, "services.web.sise");
    assert_eq!(
        told[0].render(text, false),
        "error: there is no key `sise` in `services.web`\n --> regrow.yaml:3:25 (services.web.sise)\n  |\n\
         3 |   web: {tags: [\"äöü→\"], sise: 1}\n  |                         ^^^^\n  = help: the keys here are: `checks`, `tags`\n"
    );
    let first = "\u{feff}clusters: shop\n";
    assert_eq!((errors(first)[0].line, errors(first)[0].column), (1, 1));
    assert!(errors(first)[0].render(first, false).contains("1 | clusters: shop\n  | ^^^^^^^^\n"));
}

/// Nothing of the user's text reaches a terminal as a command to it.
#[test]
fn no_control_characters_are_shown() {
    let text = "cluster: \"\\e[31mred\\e[0m\"\nservices:\n  \"\\u202eweb\": {}\n  web: {\"a\\nb\": 1}\n";
    let told = errors(text);
    assert_eq!(told.len(), 3, "{told:?}");
    let raw = "cluster: shop # \u{1b}[31m\u{85}\n";
    for (text, error) in
        told.into_iter().map(|error| (text, error)).chain(errors(raw).into_iter().map(|error| (raw, error)))
    {
        let shown = error.render(text, false);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
        assert!(!error.message.contains(['\u{1b}', '\n', '\u{202e}']), "{:?}", error.message);
    }
}

#[test]
fn colours() {
    let text = "cluster: shop\ngroup: {}\n";
    let told = errors(text)[0].render(text, true);
    let plain: String = told.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, text)| text)).collect();
    assert_ne!(told, plain);
    assert!(told.starts_with("\u{1b}[1;31merror\u{1b}[0m: "), "{told:?}");
}

/// A text that is not the one that was loaded is no reason to panic.
#[test]
fn rendered_with_another_text() {
    let told = errors("cluster: shop\nservices:\n  web: {sise: 1}\n");
    for text in ["", "ä", "short\n", "→→→→→→→→→→→→→→→→→→→→→→→→→→→→→→→→"]
    {
        assert!(told[0].render(text, false).starts_with("error: there is no key"));
    }
}
