//! The command reference is what the binary's own `--help` says. `REGROW_UPDATE=1` writes it anew.

use std::path::Path;
use std::process::Command;

fn help(words: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_regrow"))
        .args(words)
        .arg("--help")
        .env_clear()
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "regrow {words:?} --help");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed =
        listed.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

fn describe(words: &[String], page: &mut String) {
    let help = help(words);
    let name = ["regrow"].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for command in commands(&help) {
        let words: Vec<String> = words.iter().cloned().chain([command]).collect();
        describe(&words, page);
    }
}

#[test]
fn the_command_reference_is_what_help_says() {
    let mut page =
        "# Commands\n\nMade from `regrow --help` by `tests/reference.rs`; `REGROW_UPDATE=1 make test` makes it anew.\n"
            .to_owned();
    describe(&[], &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
    if std::env::var_os("REGROW_UPDATE").is_some() {
        std::fs::write(&path, &page).expect("the reference is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "docs/reference/commands.md is not what --help says: run with REGROW_UPDATE=1");
}
