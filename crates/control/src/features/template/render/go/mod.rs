//! Go's text/template with confd's functions: the engine's settings, its errors, and its bounds.

mod functions;
mod text;
mod time;
mod tree;

use super::budget::{Page, STEPS_MAX};
use super::context::Context;
use super::error::{Place, RenderError};
use gotmpl::parse::ListNode;
use gotmpl::{Template, TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A source, parsed: its own tree and those of its `define`s, by name.
type Trees = BTreeMap<String, ListNode>;

/// Checks the syntax, and that every function that is called exists.
pub(super) fn validate(name: &str, source: &str) -> Result<(), RenderError> {
    parse(name, source).map(drop)
}

/// Renders one source.
pub(super) fn render(name: &str, source: &str, context: &Arc<Context>) -> Result<String, RenderError> {
    let trees = parse(name, source)?;
    let mut page = Page::default();
    let result = template(name, &trees, context, None).execute_template_fmt(&mut page, name, &Value::Nil);
    let result = result.map_err(|error| {
        let place = place_of_failure(name, source, &trees, context);
        RenderError::Evaluation { place, message: message(error) }
    });
    page.finish(name, result)
}

fn parse(name: &str, source: &str) -> Result<Trees, RenderError> {
    let syntax = |place: Place, message: String| RenderError::Syntax { place, message };
    let fault = |fault: tree::Fault| {
        let place = fault.offset.map_or(Place::file(name), |offset| Place::at(name, source, offset));
        syntax(place, fault.message)
    };
    tree::not_cut_short(source).map_err(fault)?;
    let parsed = Template::new(name).parse(source).map_err(|error| match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            syntax(Place { file: name.to_owned(), line: Some(line), column: Some(col) }, message)
        }
        other => syntax(Place::file(name), message(other)),
    })?;
    let names: Vec<String> = parsed.templates().into_iter().map(str::to_owned).collect();
    let mut trees: Trees = names.iter().filter_map(|each| Some((each.clone(), parsed.lookup(each)?.clone()))).collect();
    // A source of definitions only, or of nothing at all, has no tree of its own name.
    trees.entry(name.to_owned()).or_insert_with(|| ListNode { pos: gotmpl::parse::Pos::new(0, 1), nodes: Vec::new() });
    for tree in trees.values_mut() {
        tree::prepare(tree).map_err(fault)?;
    }
    Ok(trees)
}

/// The trees with their functions. With `trace`, every action first notes where it is.
fn template(name: &str, trees: &Trees, context: &Arc<Context>, trace: Option<&Arc<AtomicUsize>>) -> Template {
    let mut built = Template::new(name).max_range_iters(STEPS_MAX);
    let mut functions = functions::table(context);
    for (each, tree) in trees {
        let tree = match trace {
            Some(at) => tree::traced(tree, at, &mut functions),
            None => tree.clone(),
        };
        // An empty source is parsed, so that the receiver has a tree of its own.
        built = built.add_parse_tree(each, tree);
    }
    built.funcs(functions)
}

/// Where it failed: the engine's errors of execution have no position, so the source is run once more, with a note
/// taken before each action. Equal inputs fail equally.
fn place_of_failure(name: &str, source: &str, trees: &Trees, context: &Arc<Context>) -> Place {
    let at = Arc::new(AtomicUsize::new(usize::MAX));
    let again = Arc::new(context.again());
    let mut page = Page::default();
    let failed = template(name, trees, &again, Some(&at)).execute_template_fmt(&mut page, name, &Value::Nil).is_err();
    match at.load(Ordering::Relaxed) {
        offset if failed && offset != usize::MAX => Place::at(name, source, offset),
        _ => Place::file(name),
    }
}

fn message(error: TemplateError) -> String {
    match error {
        TemplateError::Exec(message) => message,
        TemplateError::RangeIterLimit => format!("it takes more than {STEPS_MAX} steps: the source does not end"),
        other => other.to_string(),
    }
}
