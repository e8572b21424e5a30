//! `kv txn`: a transaction from JSON.

use super::show;
use crate::exit::{Code, Failure, print, print_json};
use crate::reach::{Reach, failed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Op, OpResponse, PutRequest, RangeRequest, Remote, Revision,
    Store, TxnRequest, limits,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Do several things at once, if conditions hold
///
/// Reads JSON: {"if": […], "then": […], "else": […]}.
/// A condition is a key and one of "value", "mod_revision", "create_revision",
/// "version" (0: it is not there), with "is": "=" (default), "!=", "<", ">".
/// An operation is {"put": KEY, "value": …}, {"get": KEY} or {"delete": KEY},
/// the last two with "prefix": true for all keys that begin with it. Values that
/// are no text are given as "value_base64". Without an "else", the code is 3 if
/// the conditions do not hold.
///
/// Example:
///   echo '{"if": [{"key": "a", "version": 0}],
///     "then": [{"put": "a", "value": "1"}]}' | regrow kv txn
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Txn {
    /// The file; `-` or none: standard input
    file: Option<PathBuf>,
    /// Only tell which branch would be taken
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Bytes of a transaction's text: JSON of what a store takes, with room for escapes.
const TEXT_BYTES_MAX: u64 = 4 * limits::REQUEST_BYTES_MAX as u64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, rename = "if")]
    conditions: Vec<Condition>,
    then: Vec<Operation>,
    #[serde(rename = "else")]
    otherwise: Option<Vec<Operation>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    key: String,
    #[serde(default)]
    is: Relation,
    value: Option<String>,
    value_base64: Option<String>,
    mod_revision: Option<i64>,
    create_revision: Option<i64>,
    version: Option<i64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
enum Relation {
    #[default]
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    put: Option<String>,
    get: Option<String>,
    delete: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
}

impl Txn {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let text = self.text()?;
        let form: Form = serde_json::from_slice(&text)
            .map_err(|error| Failure::usage(format!("the transaction makes no sense: {error}")))?;
        let alone = form.otherwise.is_none();
        let mut request = request(form).map_err(Failure::usage)?;
        if self.dry_run {
            (request.success, request.failure) = (Vec::new(), Vec::new());
        }
        let answer = store.txn(request).await.map_err(failed)?;
        let branch = if answer.succeeded { "then" } else { "else" };
        if self.json {
            let responses: Vec<Value> = answer.responses.iter().map(response).collect();
            print_json(&json!({ "branch": branch, "revision": answer.revision.0, "responses": responses }))?;
        } else {
            print(&format!("{branch}\n"))?;
            for response in &answer.responses {
                print(&text_of(response))?;
            }
        }
        if alone && !answer.succeeded && !self.dry_run {
            return Err(Failure::new(Code::Refused, "the conditions do not hold; nothing was done"));
        }
        Ok(())
    }

    fn text(&self) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        let read = match self.file.as_deref().filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let file = std::fs::File::open(path);
                file.and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text))
            }
            None => std::io::stdin().lock().take(TEXT_BYTES_MAX + 1).read_to_end(&mut text),
        };
        read.map_err(|error| Failure::usage(format!("cannot read the transaction: {error}")))?;
        if text.len() as u64 > TEXT_BYTES_MAX {
            return Err(Failure::usage(format!("the transaction has more than {TEXT_BYTES_MAX} bytes")));
        }
        Ok(text)
    }
}

fn request(form: Form) -> Result<TxnRequest, String> {
    Ok(TxnRequest {
        compare: form.conditions.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: form.then.into_iter().map(operation).collect::<Result<_, _>>()?,
        failure: form.otherwise.unwrap_or_default().into_iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn compare(condition: Condition) -> Result<Compare, String> {
    let key = condition.key;
    let targets = [
        bytes(condition.value, condition.value_base64)?.map(CompareTarget::Value),
        condition.mod_revision.map(|revision| CompareTarget::ModRevision(Revision(revision))),
        condition.create_revision.map(|revision| CompareTarget::CreateRevision(Revision(revision))),
        condition.version.map(CompareTarget::Version),
    ];
    let mut targets = targets.into_iter().flatten();
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return Err(format!("the condition on `{key}` needs one of value, mod_revision, create_revision, version"));
    };
    let op = match condition.is {
        Relation::Equal => CompareOp::Equal,
        Relation::NotEqual => CompareOp::NotEqual,
        Relation::Less => CompareOp::Less,
        Relation::Greater => CompareOp::Greater,
    };
    Ok(Compare::new(key, op, target))
}

fn operation(operation: Operation) -> Result<Op, String> {
    let prefix = operation.prefix;
    let value = bytes(operation.value, operation.value_base64)?;
    match (operation.put, operation.get, operation.delete, value) {
        (Some(key), None, None, Some(value)) if !prefix => Ok(Op::Put(PutRequest::new(key, value))),
        (None, Some(key), None, None) => {
            Ok(Op::Range(if prefix { RangeRequest::prefix(key) } else { RangeRequest::key(key) }))
        }
        (None, None, Some(key), None) => {
            Ok(Op::DeleteRange(if prefix { DeleteRangeRequest::prefix(key) } else { DeleteRangeRequest::key(key) }))
        }
        _ => Err("an operation is {\"put\": KEY, \"value\": …}, {\"get\": KEY} or {\"delete\": KEY}".to_owned()),
    }
}

fn bytes(text: Option<String>, encoded: Option<String>) -> Result<Option<Bytes>, String> {
    match (text, encoded) {
        (Some(_), Some(_)) => Err("value and value_base64 exclude each other".to_owned()),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(encoded)) => {
            let decoded = STANDARD.decode(&encoded).map_err(|error| format!("`{encoded}` is not base64: {error}"))?;
            Ok(Some(decoded.into()))
        }
        (None, None) => Ok(None),
    }
}

fn response(response: &OpResponse) -> Value {
    match response {
        OpResponse::Range(found) => json!({ "kvs": found.kvs.iter().map(show::object).collect::<Vec<_>>() }),
        OpResponse::Put(_) => json!({ "put": true }),
        OpResponse::DeleteRange(gone) => json!({ "deleted": gone.deleted }),
        OpResponse::Txn(_) => Value::Null,
    }
}

fn text_of(response: &OpResponse) -> String {
    match response {
        OpResponse::Range(found) => {
            let lines = found.kvs.iter().map(|kv| format!("{}\t{}\n", show::line(&kv.key), show::line(&kv.value)));
            lines.collect()
        }
        OpResponse::DeleteRange(gone) => format!("{}\n", gone.deleted),
        OpResponse::Put(_) | OpResponse::Txn(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TxnRequest, String> {
        request(serde_json::from_str(text).map_err(|error| error.to_string())?)
    }

    /// The form and what it means, and what is refused with which words.
    #[test]
    fn the_form() {
        let txn = read(
            r#"{"if": [{"key": "a", "version": 0}, {"key": "b", "is": ">", "mod_revision": 7}],
                "then": [{"put": "a", "value_base64": "/w=="}, {"delete": "c/", "prefix": true}], "else": [{"get": "a"}]}"#,
        );
        let expect = TxnRequest {
            compare: vec![
                Compare::new("a", CompareOp::Equal, CompareTarget::Version(0)),
                Compare::new("b", CompareOp::Greater, CompareTarget::ModRevision(Revision(7))),
            ],
            success: vec![
                Op::Put(PutRequest::new("a", &b"\xff"[..])),
                Op::DeleteRange(DeleteRangeRequest::prefix("c/")),
            ],
            failure: vec![Op::Range(RangeRequest::key("a"))],
        };
        assert_eq!(txn, Ok(expect));
        for (text, why) in [
            (r#"{"then": [{"put": "a"}]}"#, "an operation is"),
            (r#"{"then": [{"put": "a", "get": "b", "value": ""}]}"#, "an operation is"),
            (r#"{"then": [], "if": [{"key": "a"}]}"#, "needs one of"),
            (r#"{"then": [], "if": [{"key": "a", "version": 1, "value": "x"}]}"#, "needs one of"),
            (r#"{"then": [{"put": "a", "value": "1", "value_base64": "MQ=="}]}"#, "exclude each other"),
            (r#"{"then": [{"put": "a", "value_base64": "%"}]}"#, "is not base64"),
            (r#"{"than": []}"#, "unknown field `than`"),
        ] {
            let refused = read(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
