//! Shows what users are told about a spec, rule by rule, in the words and with the places that they see.
//!
//! Each `scripts/*.txt` holds cases: `@@@ title`, then one or several files, `@@ name`, then `@@ errors` with what is
//! rendered, or `@@ loads`. `REGROW_UPDATE=1` writes what comes out into the script, to be read before it is committed.

use regrow_model::spec::{SourceFile, load};
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/scripts");
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut different = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("a script");
        let now = run(&script);
        if now != script {
            if update() {
                std::fs::write(&path, now).expect("written");
            } else {
                different.push(first_difference(&path, &script, &now));
            }
        }
    }
    assert!(different.is_empty(), "{}\nREGROW_UPDATE=1 writes what comes out", different.join("\n"));
}

/// The script with what comes out of each of its cases.
fn run(script: &str) -> String {
    let (head, cases) = script.split_at(script.find("@@@ ").expect("a case"));
    let mut out = head.to_owned();
    for case in cases.split("@@@ ").skip(1) {
        let (title, body) = case.split_once('\n').expect("a title");
        writeln!(out, "@@@ {title}").expect("text");
        let mut files = Vec::new();
        for part in body.split("@@ ").skip(1) {
            let (name, text) = part.split_once('\n').expect("a name");
            if !matches!(name, "errors" | "loads") {
                writeln!(out, "@@ {name}").expect("text");
                out.push_str(text);
                files.push(SourceFile { name: name.to_owned(), text: text.to_owned() });
            }
        }
        out.push_str(&told(&files));
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn told(files: &[SourceFile]) -> String {
    match load(files) {
        Ok(_) => "@@ loads\n".to_owned(),
        Err(errors) => {
            let text = |name: &str| files.iter().find(|file| file.name == name).map_or("", |file| file.text.as_str());
            let told: Vec<String> = errors.iter().map(|error| error.render(text(&error.file), false)).collect();
            format!("@@ errors\n{}", told.join("\n"))
        }
    }
}

fn first_difference(path: &Path, was: &str, now: &str) -> String {
    let line = was
        .lines()
        .zip(now.lines())
        .position(|(was, now)| was != now)
        .unwrap_or(was.lines().count().min(now.lines().count()));
    let part = |text: &str| text.lines().skip(line.saturating_sub(2)).take(10).collect::<Vec<_>>().join("\n");
    format!("{}:{}\n--- expected\n{}\n--- came out\n{}", path.display(), line + 1, part(was), part(now))
}

#[expect(clippy::disallowed_methods, reason = "the update flag is the one thing that this test takes from outside")]
pub(crate) fn update() -> bool {
    std::env::var("REGROW_UPDATE").is_ok()
}
