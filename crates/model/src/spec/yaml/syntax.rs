//! The parser's errors in the words of someone who writes a spec.

use super::super::diagnostic::Wrong;
use super::super::tree::Place;
use super::{Builder, Content};
use crate::limits::SPEC_DEPTH_MAX;
use granit_parser::{ErrorKind, Marker};

impl Builder<'_> {
    /// What is wrong, where, and what to do about it.
    pub(super) fn syntax(&self, kind: &ErrorKind, marker: &Marker) -> Wrong {
        let start = marker.byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let width = self.text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let place = Place { file: self.file, start, end: start + width };
        use ErrorKind as K;
        if let Some(open) = self.frames.last().filter(|frame| frame.flow)
            && self.text[open.place.start.min(start)..start].contains('\n')
            && matches!(kind, K::MappingValueNotAllowed | K::InvalidColonPlacement | K::InvalidFlowScalarIndent)
        {
            let (what, end) = match open.content {
                Content::List(_) => ("list", ']'),
                Content::Map { .. } => ("map", '}'),
            };
            let line = self.text[..open.place.start].matches('\n').count() + 1;
            let message = format!("the {what} that begins in line {line} is still open here");
            return Wrong::new(place, message).help(format!("close it with `{end}`"));
        }
        let told: Option<(&str, &str)> = match kind {
            K::TabNotAllowed
            | K::TabInBlockIndentation
            | K::TabInIndentation
            | K::TabInPlainScalar
            | K::TabAtBlockScalarStart => Some(("a tab cannot indent in YAML", "use spaces")),
            K::UnknownAnchor => Some((
                "`*` begins an alias, and no anchor of that name comes before it",
                "quote the text if it should begin with `*`",
            )),
            K::MappingValueNotAllowed | K::InvalidColonPlacement => {
                Some(("a `:` is not allowed here", "check the indentation of this line; quote text that holds `: `"))
            }
            K::UnexpectedCharacter { character: '@' | '`' | '%' } => {
                Some(("text cannot begin with this character", "put it in quotes"))
            }
            K::ExpectedBlockMappingKey | K::SimpleKeyExpected | K::InvalidIndentation | K::InvalidSimpleKey => Some((
                "a `key: value` is expected here",
                "keys of one map begin in the same column; check this line and the one before it",
            )),
            K::ExpectedFlowSequenceSeparator | K::ExpectedFlowMappingSeparator => Some((
                "a `,` or the end of the list or map is expected here",
                "inside `[…]` and `{…}` quote text that holds one of `[ ] { } ,`: \"${PORT}\"",
            )),
            K::UnclosedQuotedScalar => Some(("a quote is opened and never closed", "close it")),
            K::InvalidQuotedScalarIndent => Some((
                "a quote is still open here",
                "close it where the text ends; text that goes on in the next line must be indented",
            )),
            K::UnclosedFlowCollection { .. } | K::UnexpectedEofFlowSequence | K::UnexpectedEofFlowMapping => {
                Some(("a `[` or `{` is opened and never closed", "close it"))
            }
            K::UnknownQuotedScalarEscape => Some(("this backslash escapes nothing", "double it, or use single quotes")),
            K::RecursionLimitExceeded => {
                let message = format!("values are nested deeper than {SPEC_DEPTH_MAX} levels here");
                return Wrong::new(place, message);
            }
            _ => None,
        };
        match told {
            Some((message, help)) => Wrong::new(place, message).help(help),
            None => Wrong::new(place, format!("this is not YAML: {kind}")),
        }
    }
}
