//! YAML text to a tree of values with their places.
//!
//! Built on the parser's events rather than on serde: serde stops at the first error and knows no place of a key, and
//! a spec's errors should all be told at once. YAML 1.2, so JSON too. Anchors, aliases and `<<` work; what they expand
//! to is counted, so that a few lines cannot become gigabytes.

mod syntax;

use super::diagnostic::{Wrong, Wrongs, quoted};
use super::tree::{Member, Node, Place, Scalar, Value};
use crate::limits::{SPEC_DEPTH_MAX, SPEC_NODES_MAX};
use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Reads one file. `budget`: how many values may still come, for all files together.
///
/// `None`: there is nothing in it but comments, or it was given up because of an error.
pub(super) fn read(file: usize, text: &str, budget: &mut usize, wrong: &mut Wrongs) -> Option<Node> {
    let mut builder = Builder { file, text, budget, frames: Vec::new(), anchors: BTreeMap::new(), root: None, wrong };
    if let Err(last) = builder.run() {
        builder.wrong.push(last);
        return None;
    }
    builder.root.filter(|node| !node.is_nothing())
}

/// A collection that is being read.
struct Frame {
    place: Place,
    anchor: usize,
    flow: bool,
    depth_below: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { members: Vec<Member>, places: BTreeMap<String, Place>, key: Option<Key>, merged: Vec<Member> },
}

/// The key that waits for its value.
enum Key {
    Named(String, Place),
    /// `<<`: the value's keys are added to the map's own.
    Merge,
    /// It was wrong; its value is passed over.
    Wrong,
}

struct Builder<'a> {
    file: usize,
    text: &'a str,
    budget: &'a mut usize,
    frames: Vec<Frame>,
    /// What was anchored, with its number of values and its depth.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    root: Option<Node>,
    wrong: &'a mut Wrongs,
}

impl Builder<'_> {
    fn run(&mut self) -> Result<(), Wrong> {
        if let Some(at) = self.text.find('\0') {
            return Err(Wrong::new(Place { file: self.file, start: at, end: at + 1 }, NUL));
        }
        let options = granit_parser::options! {
            flow_nesting_limit: SPEC_DEPTH_MAX,
            block_nesting_limit: SPEC_DEPTH_MAX,
        };
        let mut documents = 0;
        for next in Parser::new_from_str_with_options(self.text, options) {
            if self.wrong.full() {
                return Ok(());
            }
            let (event, span) = next.map_err(|error| self.syntax(error.kind(), error.marker()))?;
            let place = self.place(&span);
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        let help = "leave out the `---`, or put the second part into a file of its own in a folder";
                        return Err(Wrong::new(place, "a second document begins here; a file holds one").help(help));
                    }
                }
                Event::Alias(id) => {
                    let Some((node, weight, depth)) = self.anchors.get(&id).cloned() else {
                        let help = "a value cannot contain itself";
                        return Err(Wrong::new(place, "this alias is inside what it stands for").help(help));
                    };
                    self.spend(weight, place)?;
                    self.deepen(depth, place)?;
                    self.attach(node, 0, weight, depth)?;
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.spend(1, place)?;
                    let scalar = self.scalar(&text, style, tag.as_deref(), place);
                    let node = Node { place, value: Value::Scalar(text.into_owned(), scalar) };
                    self.attach(node, anchor, 1, 0)?;
                }
                Event::SequenceStart(style, anchor, tag) => {
                    self.open(style, anchor, tag, place, "seq", Content::List(Vec::new()))?;
                }
                Event::MappingStart(style, anchor, tag) => {
                    let content = Content::Map { members: vec![], places: BTreeMap::new(), key: None, merged: vec![] };
                    self.open(style, anchor, tag, place, "map", content)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(place)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        style: StructureStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        place: Place,
        known: &str,
        content: Content,
    ) -> Result<(), Wrong> {
        self.spend(1, place)?;
        if let Some(tag) = tag
            && tag.core_suffix() != Some(known)
        {
            self.foreign_tag(&tag, place);
        }
        self.frames.push(Frame { place, anchor, flow: style == StructureStyle::Flow, depth_below: 0, content });
        self.deepen(0, place)
    }

    fn close(&mut self, end: Place) -> Result<(), Wrong> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let mut place = frame.place;
        let value = match frame.content {
            Content::List(items) => {
                place.end = items.last().map_or(place.end, |node| node.place.end.max(place.end));
                Value::List(items)
            }
            Content::Map { mut members, mut places, merged, .. } => {
                let last = members.last().map(|member| member.node.place.end.max(member.key_place.end));
                place.end = last.map_or(place.end, |end| end.max(place.end));
                for member in merged {
                    if !places.contains_key(&member.key) {
                        places.insert(member.key.clone(), member.key_place);
                        members.push(member);
                    }
                }
                Value::Map(members)
            }
        };
        if frame.flow {
            place.end = end.end;
        }
        let node = Node { place, value };
        let weight = if frame.anchor > 0 { weigh(&node) } else { 0 };
        self.attach(node, frame.anchor, weight, frame.depth_below + 1)
    }

    /// Puts a whole value where it belongs. `weight` and `depth`: number of values in it and levels below it.
    fn attach(&mut self, node: Node, anchor: usize, weight: usize, depth: usize) -> Result<(), Wrong> {
        if anchor > 0 {
            self.spend(weight, node.place)?;
            self.anchors.insert(anchor, (node.clone(), weight, depth));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.depth_below = frame.depth_below.max(depth);
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { key: waiting @ None, places, .. } => {
                let key = match node.value {
                    Value::Scalar(key, scalar) if key == "<<" && scalar == Scalar::Text => Key::Merge,
                    Value::Scalar(key, _) => match places.get(&key) {
                        Some(first) => {
                            let message = format!("the key {} is given twice in one map", quoted(&key));
                            let line = self.text[..first.start].matches('\n').count() + 1;
                            let help = format!("it is already in line {line}: put both together, or rename one");
                            self.wrong.push(Wrong::new(node.place, message).help(help));
                            Key::Wrong
                        }
                        None => {
                            places.insert(key.clone(), node.place);
                            Key::Named(key, node.place)
                        }
                    },
                    Value::List(_) | Value::Map(_) => {
                        let message = "a key must be a single word";
                        let help = "quote text that begins with `{` or `[`: \"{staged}\"";
                        self.wrong.push(Wrong::new(node.place, message).help(help));
                        Key::Wrong
                    }
                };
                *waiting = Some(key);
            }
            Content::Map { members, key, merged, .. } => match key.take() {
                Some(Key::Named(key, key_place)) => members.push(Member { key, key_place, node }),
                Some(Key::Merge) => match node.value {
                    Value::Map(members) => merged.extend(members),
                    Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                        for item in items {
                            if let Value::Map(members) = item.value {
                                merged.extend(members);
                            }
                        }
                    }
                    _ => {
                        let message = format!("`<<` merges a map into this one, found {}", node.found());
                        self.wrong.push(Wrong::new(node.place, message).help("give it an alias: `<<: *base`"));
                    }
                },
                Some(Key::Wrong) | None => {}
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Scalar {
        if text.contains('\0') {
            self.wrong.push(Wrong::new(place, NUL));
        }
        let plain = Scalar::plain(text);
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain { plain } else { Scalar::Text };
        };
        match (tag.core_suffix(), plain) {
            (Some("str"), _) => Scalar::Text,
            (None, _) if tag.suffix().is_empty() && tag.handle() == "!" => Scalar::Text,
            (Some("null"), Scalar::Nothing)
            | (Some("bool"), Scalar::Flag(_))
            | (Some("int"), Scalar::Whole(_))
            | (Some("float"), Scalar::Real(_)) => plain,
            (Some("float"), Scalar::Whole(whole)) => Scalar::Real(whole as f64),
            (Some(known @ ("null" | "bool" | "int" | "float")), _) => {
                let message = format!("{} is not what its tag `!!{known}` says", quoted(text));
                self.wrong.push(Wrong::new(place, message).help("leave the tag out"));
                Scalar::Text
            }
            _ => {
                self.foreign_tag(tag, place);
                Scalar::Text
            }
        }
    }

    fn foreign_tag(&mut self, tag: &Tag, place: Place) {
        let message = format!("the tag {} means nothing here", quoted(&tag.original()));
        self.wrong.push(Wrong::new(place, message).help("leave it out; quote text that begins with `!`"));
    }

    /// Takes values from what may still come.
    fn spend(&mut self, values: usize, place: Place) -> Result<(), Wrong> {
        match self.budget.checked_sub(values) {
            Some(left) => {
                *self.budget = left;
                Ok(())
            }
            None => {
                let message =
                    format!("the spec grows beyond {SPEC_NODES_MAX} values here, counting what aliases repeat");
                Err(Wrong::new(place, message).help("say less, or repeat less by aliases"))
            }
        }
    }

    fn deepen(&mut self, depth: usize, place: Place) -> Result<(), Wrong> {
        if self.frames.len() + depth <= SPEC_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("values are nested deeper than {SPEC_DEPTH_MAX} levels here");
        Err(Wrong::new(place, message))
    }

    fn place(&self, span: &Span) -> Place {
        let range = span.byte_range().unwrap_or(0..0);
        Place { file: self.file, start: range.start, end: range.end.max(range.start) }
    }
}

const NUL: &str = "there is a NUL character here, which no path, argument or name can hold";

/// The number of values in a value, itself included.
fn weigh(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(..) => 1,
        Value::List(items) => 1 + items.iter().map(weigh).sum::<usize>(),
        Value::Map(members) => 1 + members.iter().map(|member| weigh(&member.node)).sum::<usize>(),
    }
}
