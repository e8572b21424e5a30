//! Shows that the guides say what is so: their complete examples load, and errors look as they are shown.

use crate::scripts::update;
use regrow_model::spec::{SourceFile, load};
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// A fenced block that begins with "```yaml complete" is a whole spec; further ones marked "```yaml complete NAME" in a
/// row are the files of one.
#[test]
fn complete_examples_load() {
    let mut examples = 0;
    for page in ["spec.md", "groups.md", "checks.md", "templates.md"] {
        let path = docs().join("guide").join(page);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut folder: Vec<SourceFile> = Vec::new();
        let mut specs: Vec<Vec<SourceFile>> = Vec::new();
        for block in text.split("\n```yaml complete").skip(1) {
            let (name, rest) = block.split_once('\n').expect("a line");
            let (text, _) = rest.split_once("\n```").expect("an end");
            let file = SourceFile { name: format!("{page}:{}", name.trim()), text: format!("{text}\n") };
            if name.is_empty() { specs.push(vec![file]) } else { folder.push(file) }
        }
        if !folder.is_empty() {
            specs.push(folder);
        }
        assert!(!specs.is_empty(), "{page} has a complete example");
        for files in specs {
            if let Err(errors) = load(&files) {
                let told: Vec<String> = errors.iter().map(|error| error.render(&files[0].text, false)).collect();
                panic!("{}", told.join("\n"));
            }
            examples += 1;
        }
    }
    assert!(examples >= 4, "{examples}");
}

/// What a guide shows as rendered, it shows as it is. `REGROW_UPDATE=1` writes it.
#[test]
fn errors_are_shown_as_they_are() {
    let path = docs().join("guide/spec.md");
    let text = std::fs::read_to_string(&path).expect("the guide");
    let block = |mark: &str| {
        let start = text.find(&format!("\n```{mark}\n")).expect("a block") + mark.len() + 5;
        (start, start + text[start..].find("```").expect("an end"))
    };
    let (start, end) = block("yaml wrong");
    let file = SourceFile { name: "regrow.yaml".to_owned(), text: text[start..end].to_owned() };
    let errors = load(std::slice::from_ref(&file)).expect_err("a wrong example");
    let told: Vec<String> = errors.iter().map(|error| error.render(&file.text, false)).collect();
    let (start, end) = block("text errors");
    if update() {
        let now = format!("{}{}{}", &text[..start], told.join("\n"), &text[end..]);
        std::fs::write(&path, now).expect("written");
    } else {
        assert_eq!(told.join("\n"), text[start..end]);
    }
}
