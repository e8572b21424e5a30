//! From texts to a spec: read, merge, shape, rules. Each step tells all that it finds.

use super::diagnostic::{Diagnostic, Wrong, Wrongs, quoted};
use super::shape::{Here, Shapes};
use super::tree::{At, Member, Node, Place, Value};
use super::{Spec, near, validate, yaml};
use crate::Name;
use crate::limits::{DIAGNOSTICS_MAX, OBJECTS_MAX, SPEC_BYTES_MAX, SPEC_FILES_MAX, SPEC_NODES_MAX};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// One file of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// What errors call it: its path as the user gave it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads a whole spec, given as one file or as the files of a folder, and checks all that can be known without the
/// world. Pure: the caller reads the files, in the order that it wants errors in.
///
/// Sections are merged. The same name twice in a section is an error that names both places. Files without any value
/// are passed over, if one has some.
///
/// Errors: all that were found, in the order of files and lines, at most [`DIAGNOSTICS_MAX`] and one that says so. An
/// object with a key or type that is wrong is left out of the rules between values; while one is, the rules between
/// objects wait; text that is not YAML hides everything else.
pub fn load(files: &[SourceFile]) -> Result<Spec, Vec<Diagnostic>> {
    if let Some(refused) = refused(files) {
        return Err(vec![refused]);
    }
    let mut wrong = Wrongs::default();
    let mut budget = SPEC_NODES_MAX;
    let roots: Vec<Node> = files
        .iter()
        .enumerate()
        .filter_map(|(index, file)| yaml::read(index, &file.text, &mut budget, &mut wrong))
        .collect();
    if wrong.is_empty() && roots.is_empty() {
        let start = Place { file: 0, start: 0, end: 0 };
        wrong.push(Wrong::new(start, "the spec is empty").help("begin with the cluster's name: `cluster: shop`"));
    }
    if !wrong.is_empty() {
        return Err(told(files, wrong));
    }
    let root = merged(files, roots, &mut wrong);
    if matches!(&root.value, Value::Map(sections) if sections.is_empty()) && !wrong.is_empty() {
        return Err(told(files, wrong));
    }
    let spec = shaped(&root, &mut wrong);
    if let Some(spec) = spec {
        let whole = wrong.is_empty();
        validate::check(&spec, &At::root(&root), whole, &mut wrong);
        if wrong.is_empty() {
            return Ok(spec);
        }
    }
    Err(told(files, wrong))
}

/// What is refused before it is read.
fn refused(files: &[SourceFile]) -> Option<Diagnostic> {
    if files.is_empty() {
        let help = "name a file, or a folder that holds files that end in .yaml, .yml or .json".to_owned();
        return Some(Diagnostic::nowhere("there is no spec file".to_owned(), Some(help)));
    }
    if files.len() > SPEC_FILES_MAX {
        let message = format!("the spec has {} files; it may have {SPEC_FILES_MAX}", files.len());
        return Some(Diagnostic::nowhere(message, None));
    }
    let mut bytes = 0_usize;
    for file in files {
        bytes = bytes.saturating_add(file.text.len());
        if bytes > SPEC_BYTES_MAX {
            let message = format!("the spec is larger than {SPEC_BYTES_MAX} bytes");
            return Some(Diagnostic { file: file.name.clone(), ..Diagnostic::nowhere(message, None) });
        }
    }
    None
}

/// Puts the files together: sections with the same key become one.
fn merged(files: &[SourceFile], roots: Vec<Node>, wrong: &mut Wrongs) -> Node {
    let place = roots.first().map_or(Place { file: 0, start: 0, end: 0 }, |root| root.place);
    let mut sections: Vec<Member> = Vec::new();
    let mut names: Vec<BTreeMap<String, Place>> = Vec::new();
    for root in roots {
        let Value::Map(members) = root.value else {
            let message = format!("a spec is a map of sections, found {}", root.found());
            wrong.push(Wrong::new(root.place, message).help("begin with the cluster's name: `cluster: shop`"));
            continue;
        };
        for section in members {
            let Some(index) = sections.iter().position(|known| known.key == section.key) else {
                names.push(places(&section));
                sections.push(section);
                continue;
            };
            if sections[index].node.is_nothing() {
                names[index] = places(&section);
                sections[index] = section;
                continue;
            }
            let known = &mut sections[index];
            if section.node.is_nothing() {
                continue;
            }
            match (&mut known.node.value, section.node.value) {
                (Value::Map(all), Value::Map(more)) => {
                    for entry in more {
                        match names[index].get(&entry.key) {
                            Some(first) => {
                                let path = super::shape::join(&section.key, &entry.key);
                                wrong.push(twice(files, &path, *first, entry.key_place));
                            }
                            None => {
                                names[index].insert(entry.key.clone(), entry.key_place);
                                all.push(entry);
                            }
                        }
                    }
                }
                _ => wrong.push(twice(files, &section.key, known.key_place, section.key_place)),
            }
        }
    }
    Node { place, value: Value::Map(sections) }
}

/// The entries of a section and where they are.
fn places(section: &Member) -> BTreeMap<String, Place> {
    match &section.node.value {
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.key_place)).collect(),
        _ => BTreeMap::new(),
    }
}

/// The same key in two files.
fn twice(files: &[SourceFile], path: &str, first: Place, second: Place) -> Wrong {
    let first = diagnostic(files, Wrong::new(first, ""));
    let help =
        format!("it is already at {}:{}:{}: put both together, or rename one", first.file, first.line, first.column);
    Wrong::new(second, format!("{} is given twice", quoted(path))).path(path).help(help)
}

/// The tree as a spec. Objects that are wrong in themselves are left out, so that the rules can be applied to the
/// others; `None` when that is not possible.
fn shaped(root: &Node, wrong: &mut Wrongs) -> Option<Spec> {
    let shapes = Shapes::new();
    let none = Map::new();
    let properties = shapes.root()["properties"].as_object().unwrap_or(&none);
    let Value::Map(sections) = &root.value else { return None };
    let mut out = Map::new();
    for section in sections {
        let Some(schema) = properties.get(&section.key) else {
            wrong.push(shapes.unknown(&section.key, section.key_place, "", properties));
            continue;
        };
        if section.node.is_nothing() && section.key != "cluster" {
            continue;
        }
        let here = Here { node: &section.node, key: section.key_place, path: &section.key };
        let value = match (shapes.entries(schema), &section.node.value) {
            (Some(object), Value::Map(entries)) => Some(named(&shapes, object, section, entries, wrong)),
            _ => shapes.read(schema, here, wrong),
        };
        if let Some(value) = value {
            out.insert(section.key.clone(), value);
        }
    }
    let slip = |section: &Member| near::nearest(&section.key, ["cluster"]).is_some();
    if !sections.iter().any(slip) {
        let help = "give the cluster a name: `cluster: shop`";
        let start = Place { end: root.place.start, ..root.place };
        wrong.push(Wrong::new(start, "`cluster` is missing in the spec").path("cluster").help(help));
    }
    // Only so that the other rules can be applied: there is an error already.
    out.entry("cluster").or_insert_with(|| Json::String("unknown".to_owned()));
    match serde_json::from_value(Json::Object(out)) {
        Ok(spec) => Some(spec),
        Err(error) => {
            wrong.push(Wrong::new(root.place, error.to_string()));
            None
        }
    }
}

/// The objects of a section, without those that are wrong in themselves.
fn named(shapes: &Shapes, object: &Json, section: &Member, entries: &[Member], wrong: &mut Wrongs) -> Json {
    let mut out = Map::new();
    if entries.len() > OBJECTS_MAX {
        let message = format!("`{}` has {} entries; it may have {OBJECTS_MAX}", section.key, entries.len());
        wrong.push(Wrong::new(section.key_place, message).path(&section.key).help("make several clusters"));
        return Json::Object(out);
    }
    for entry in entries {
        if wrong.full() {
            break;
        }
        let path = super::shape::join(&section.key, &entry.key);
        if Name::new(&entry.key).is_err() {
            wrong.push(super::shape::no_name(&entry.key, entry.key_place, &path));
            continue;
        }
        let here = Here { node: &entry.node, key: entry.key_place, path: &path };
        if let Some(value) = shapes.read(object, here, wrong) {
            out.insert(entry.key.clone(), value);
        }
    }
    Json::Object(out)
}

/// The errors with their files, in order, each once.
fn told(files: &[SourceFile], wrong: Wrongs) -> Vec<Diagnostic> {
    let full = wrong.full();
    let mut list = wrong.list;
    list.sort_by(|one, other| (one.place, &one.message).cmp(&(other.place, &other.message)));
    list.dedup_by(|one, other| one.place == other.place && one.message == other.message);
    let mut out: Vec<Diagnostic> = list.into_iter().map(|wrong| diagnostic(files, wrong)).collect();
    if full {
        let message = format!("only {DIAGNOSTICS_MAX} errors are told at once");
        out.push(Diagnostic::nowhere(message, None));
    }
    out
}

fn diagnostic(files: &[SourceFile], wrong: Wrong) -> Diagnostic {
    let Wrong { place, path, message, help } = wrong;
    let (name, text) = files.get(place.file).map_or(("", ""), |file| (&file.name, &file.text));
    Diagnostic::at(name, text, place, path, message, help)
}
