//! Runs the examples of a page of the guide: what it shows is what happens.

use std::path::Path;
use std::process::Command;

/// A command with what the page says that it prints.
#[derive(Debug)]
pub struct Example {
    pub command: String,
    pub output: Vec<String>,
}

/// The commands of a page's blocks that begin with a fence of `console run`, in order.
pub fn examples(page: &str) -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```console run" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => examples.push(Example { command: command.to_owned(), output: Vec::new() }),
                None => examples.last_mut().expect("a command comes first").output.push(line.to_owned()),
            },
        }
    }
    assert!(!examples.is_empty(), "{page} has no examples that run");
    examples
}

/// Runs them in one shell, with `regrow` being the binary under test, and compares what is printed, standard output and
/// error together. A line of the page that ends with `…` stands for any that begins so.
pub fn run(page: &str, prepare: impl Fn(&mut Command)) {
    let examples = examples(page);
    let mark = "----- the next one -----";
    let script: String = examples.iter().map(|example| format!("{}\necho '{mark}'\n", example.command)).collect();
    let mut shell = Command::new("sh");
    let folder = Path::new(env!("CARGO_BIN_EXE_regrow")).parent().expect("a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    shell.arg("-c").arg(format!("exec 2>&1\n{script}")).env("PATH", path);
    prepare(&mut shell);
    let output = shell.output().expect("a shell runs");
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    let mark = format!("{mark}\n");
    let mut answers = output.split(&mark);
    for example in &examples {
        let answer: Vec<&str> = answers.next().unwrap_or_default().lines().collect();
        let fits = |(page, line): (&String, &&str)| match page.strip_suffix('…') {
            Some(start) => line.starts_with(start),
            None => page == line,
        };
        let same = answer.len() == example.output.len() && example.output.iter().zip(&answer).all(fits);
        assert!(same, "{page} is not true: {example:#?} printed {answer:#?}");
    }
}
