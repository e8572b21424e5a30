//! Rules of services and their checks.

use super::super::diagnostic::{Wrongs, quoted};
use super::super::tree::At;
use super::super::{Check, Service};
use super::field;
use crate::duration::Span;
use crate::limits::{CHECK_INTERVAL_MIN, CHECKS_MAX, TAG_LENGTH_MAX};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(service: &Service, at: &At<'_>, wrong: &mut Wrongs) {
    let checks = at.get("checks");
    if service.checks.len() > CHECKS_MAX {
        let message = format!("there are {} checks; a service may have {CHECKS_MAX}", service.checks.len());
        wrong.key(&checks, message, "join some of them in a script");
        return;
    }
    let mut labels = BTreeMap::new();
    for (index, check) in service.checks.iter().enumerate() {
        let at = checks.index(index);
        if one(check, &at, wrong)
            && let Some(first) = labels.insert(check.label(), index)
        {
            let message = format!("two checks are {}: their results could not be told apart", quoted(&check.label()));
            let help = format!("`checks[{first}]` is the other: leave one out");
            wrong.key(&at, message, help);
        }
    }
    let tags = at.get("tags");
    let mut seen = BTreeSet::new();
    for (index, tag) in service.tags.iter().enumerate() {
        let at = tags.index(index);
        if tag.trim().is_empty() || tag.len() > TAG_LENGTH_MAX || tag.contains(char::is_control) {
            let help = format!("tags have 1 to {TAG_LENGTH_MAX} bytes on one line");
            wrong.value(&at, format!("{} is not a tag", quoted(tag)), help);
        } else if !seen.insert(tag) {
            wrong.value(&at, format!("the tag {} is given twice", quoted(tag)), "leave one out");
        }
    }
}

/// One check; whether it says in one way how.
fn one(check: &Check, at: &At<'_>, wrong: &mut Wrongs) -> bool {
    let given = [
        ("http", check.http.is_some()),
        ("tcp", check.tcp),
        ("script", !check.script.is_empty()),
        ("process", check.process),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let help = "add one of `http: /healthz`, `tcp: true`, `script: [check-it]` and `process: true`";
            wrong.key(at, "the check does not say how", help);
        }
        [first, second, ..] => {
            let message = format!("the check is `{first}` and `{second}` at once");
            wrong.key(&at.get(second), message, "make them two entries of `checks`: all must pass");
        }
    }
    if let Some(target) = &check.http {
        let at = at.get("http");
        if !target.starts_with('/') {
            field::url(&at, target, "neither a path nor an `http://` URL", "/healthz", wrong);
        } else if target.contains(|c: char| c.is_whitespace() || c.is_control()) {
            wrong.value(&at, format!("the path {} has a space in it", quoted(target)), "write it as `%20`");
        }
    }
    field::command(&at.get("script"), &check.script, wrong);
    let interval = at.get("interval");
    if check.interval.0 < CHECK_INTERVAL_MIN {
        let message = format!("an interval of {} is too short: the checks would be the load", check.interval);
        wrong.value(&interval, message, format!("the shortest is {}", Span(CHECK_INTERVAL_MIN)));
    }
    field::span(&interval, check.interval, wrong);
    field::positive(&at.get("timeout"), check.timeout, wrong);
    given.len() == 1
}
