//! What is done to a parsed source before it runs.

use super::functions;
use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, Parser, PipeNode, Pos, SmolStr};
use gotmpl::{FuncMap, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is wrong with a source, and where.
pub(super) struct Fault {
    /// The byte; `None` when it is too dear to find.
    pub(super) offset: Option<usize>,
    pub(super) message: String,
}

/// Put behind a source to see whether the parser came so far.
const END: &str = "\0end of the source\0";

/// Most bytes that are parsed to find the place of one fault.
const SEARCH_BYTES_MAX: usize = 8 << 20;

/// Refuses an `{{end}}` or `{{else}}` too many: Go does, the engine takes it for the end of the source and loses the
/// rest. A source that is wrong in another way is left to the engine's own words.
pub(super) fn not_cut_short(source: &str) -> Result<(), Fault> {
    if reaches_end(source) != Some(false) {
        return Ok(());
    }
    // Whatever ends a block that is open has a prefix that is not a source of its own; the one too many has.
    let mut searched = 0;
    let mut candidates = source.match_indices("{{").map(|(offset, _)| offset).filter(|offset| {
        let word = source[offset + 2..].trim_start_matches('-').trim_start();
        word.starts_with("end") || word.starts_with("else")
    });
    let offset = candidates.by_ref().find(|offset| {
        searched += offset;
        searched > SEARCH_BYTES_MAX || reaches_end(&source[..*offset]) == Some(true)
    });
    let offset = offset.filter(|_| searched <= SEARCH_BYTES_MAX);
    Err(Fault { offset, message: "an {{end}} or {{else}} that belongs to nothing".to_owned() })
}

/// Whether the parser takes in the whole source; `None` when it refuses it.
fn reaches_end(source: &str) -> Option<bool> {
    let marked = format!("{source}{END}");
    let (tree, _) = Parser::new(&marked, "{{", "}}").ok()?.parse().ok()?;
    Some(matches!(tree.nodes.last(), Some(Node::Text(text)) if text.text.ends_with(END)))
}

/// Checks that every function exists, makes methods of times into calls, and lets every named template pay for its
/// run: the engine bounds the depth of such calls, and a template that calls itself twice takes 2^depth of them.
pub(super) fn prepare(tree: &mut ListNode) -> Result<(), Fault> {
    list(tree)?;
    tree.nodes.insert(0, call(tree.pos, functions::STEP));
    Ok(())
}

fn list(tree: &mut ListNode) -> Result<(), Fault> {
    for node in &mut tree.nodes {
        match node {
            Node::List(inner) => list(inner)?,
            Node::Action(action) => pipe(&mut action.pipe)?,
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                pipe(&mut branch.pipe)?;
                list(&mut branch.body)?;
                if let Some(other) = &mut branch.else_body {
                    list(other)?;
                }
            }
            Node::Template(template) => {
                if let Some(inner) = &mut template.pipe {
                    pipe(inner)?;
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
    Ok(())
}

fn pipe(pipe: &mut PipeNode) -> Result<(), Fault> {
    for command in &mut pipe.commands {
        // `datetime.Format "…"` is a method of a time: the engine has functions only.
        if let Some(Expr::Chain(pos, inner, fields)) = command.args.first()
            && let Expr::Identifier(_, name) = inner.as_ref()
            && name == "datetime"
            && let [method] = fields.as_slice()
        {
            command.args[0] = Expr::Identifier(*pos, functions::time_method(method).into());
        }
        for argument in &mut command.args {
            expression(argument)?;
        }
    }
    Ok(())
}

fn expression(expression_: &mut Expr) -> Result<(), Fault> {
    match expression_ {
        Expr::Identifier(pos, name) => {
            functions::known(name).map_err(|message| Fault { offset: Some(pos.offset), message })
        }
        Expr::Pipe(_, inner) => pipe(inner),
        Expr::Chain(_, inner, _) => expression(inner),
        Expr::Dot(_)
        | Expr::Field(..)
        | Expr::Variable(..)
        | Expr::String(..)
        | Expr::Number(..)
        | Expr::Bool(..)
        | Expr::Nil(_) => Ok(()),
    }
}

/// A copy in which each action first notes its place in `at`.
pub(super) fn traced(tree: &ListNode, at: &Arc<AtomicUsize>, functions: &mut FuncMap) -> ListNode {
    let mut nodes = Vec::with_capacity(tree.nodes.len() * 2);
    for node in &tree.nodes {
        let pos = match node {
            Node::Action(action) => Some(action.pipe.pos),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(branch.pipe.pos),
            Node::Template(template) => Some(template.pos),
            _ => None,
        };
        if let Some(pos) = pos {
            let (at, offset) = (at.clone(), pos.offset);
            let name = format!("{}{offset}", functions::PLACE);
            functions.insert(
                name.clone(),
                Arc::new(move |_: &[Value]| {
                    at.store(offset, Ordering::Relaxed);
                    Ok(Value::String("".into()))
                }),
            );
            nodes.push(call(pos, &name));
        }
        nodes.push(inside(node, at, functions));
    }
    ListNode { pos: tree.pos, nodes }
}

fn inside(node: &Node, at: &Arc<AtomicUsize>, functions: &mut FuncMap) -> Node {
    let mut node = node.clone();
    match &mut node {
        Node::List(inner) => *inner = traced(inner, at, functions),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
            branch.body = traced(&branch.body, at, functions);
            branch.else_body = branch.else_body.as_ref().map(|other| traced(other, at, functions));
        }
        Node::Text(_) | Node::Action(_) | Node::Template(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
    }
    node
}

/// An action that calls a function without arguments.
fn call(pos: Pos, name: &str) -> Node {
    let command = CommandNode { pos, args: vec![Expr::Identifier(pos, SmolStr::new(name))] };
    Node::Action(ActionNode {
        pos,
        pipe: PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false },
    })
}
