//! Shows what comes out of specs that load: defaults, text as it was written, merged files, names of instances.

use regrow_model::duration::Span;
use regrow_model::spec::{Ports, SourceFile, Spec, load};
use regrow_model::{InstanceId, Name};

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fn spec(text: &str) -> Spec {
    load(&[file("regrow.yaml", text)]).unwrap_or_else(|errors| panic!("{}", errors[0].render(text, false)))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[test]
fn defaults() {
    let spec = spec("cluster: shop\ngroups: {web: {size: 3, provider: process, command: [serve]}}\n");
    let group = &spec.groups[&name("web")];
    assert_eq!((group.port, group.drain), (Ports { first: 20_000, last: 29_999 }, Span::secs(1)));
    assert_eq!((group.grace, group.replace_failing), (Span::secs(10), Span::secs(30)));
    assert_eq!((group.stop.signal.as_str(), group.update.max_unavailable, group.floor()), ("TERM", 1, 2));
    assert_eq!((spec.governor.budget.changes, spec.governor.freeze.share), (120, 0.5));
}

/// One key of an object given leaves the others at their defaults.
#[test]
fn defaults_key_by_key() {
    let spec = spec("cluster: shop\ngovernor: {budget: {changes: 3}, freeze: {share: 1}}\n");
    assert_eq!((spec.governor.budget.changes, spec.governor.budget.per), (3, Span::secs(60)));
    assert_eq!((spec.governor.freeze.share, spec.governor.freeze.at_least), (1.0, 4));
}

#[test]
fn numbers_stay_as_they_were_written_where_text_is_wanted() {
    let spec = spec(
        "cluster: 007\ngroups:\n  web:\n    size: 0x1\n    provider: process\n    port: 0080\n    \
         command: [serve, 80, 1.50, 0644, true, 1e3]\n    environment: {A: 1.0, B: no, C: 0x1F}\n\
         templates: {t: {source: a, destination: b, mode: 0600, vars: {n: 1, r: 1.5, s: '1', l: [~, {k: true}]}}}\n",
    );
    let group = &spec.groups[&name("web")];
    assert_eq!(spec.cluster.as_str(), "007");
    assert_eq!(group.command, ["serve", "80", "1.50", "0644", "true", "1e3"]);
    assert_eq!(group.environment.values().map(String::as_str).collect::<Vec<_>>(), ["1.0", "no", "0x1F"]);
    assert_eq!((group.size, group.port), (1, Ports { first: 80, last: 80 }));
    let template = &spec.templates[&name("t")];
    assert_eq!(template.mode.as_deref(), Some("0600"));
    let vars = serde_json::to_value(&template.vars).expect("JSON");
    assert_eq!(vars, serde_json::json!({"n": 1, "r": 1.5, "s": "1", "l": [null, {"k": true}]}));
}

#[test]
fn merged_files_are_one_spec() {
    let whole = spec("cluster: shop\nservices: {api: {tags: [a]}, web: {}}\ngovernor: {budget: {changes: 3}}\n");
    let parts = [
        file("a.yaml", "services: {web: {}}\n"),
        file("b.yaml", "cluster: shop\ngovernor: {budget: {changes: 3}}\n"),
        file("c.json", r#"{"services": {"api": {"tags": ["a"]}}}"#),
        file("d.yaml", "# later\n"),
    ];
    assert_eq!(load(&parts).expect("a spec"), whole);
}

/// A merged map keeps what it says itself; the first of several maps that are merged wins.
#[test]
fn merges() {
    let spec = spec(
        "cluster: shop\ngroups:\n  a: &a {size: 1, provider: process, command: [a]}\n  \
         b: &b {size: 2, provider: process, command: [b], user: b}\n  c: {<<: [*a, *b], command: [c]}\n",
    );
    let group = &spec.groups[&name("c")];
    assert_eq!((group.size, group.command[0].as_str(), group.user.as_deref()), (1, "c", Some("b")));
}

/// What a spec says comes out of its JSON form unchanged: records and files are the same.
#[test]
fn a_spec_survives_its_own_json() {
    let text = include_str!("scripts/good.txt");
    let mut seen = 0;
    for case in text.split("@@@ ").skip(1) {
        let body = case.split_once("\n@@ ").and_then(|(_, rest)| rest.split_once('\n')).expect("a file").1;
        let first = spec(body.split("\n@@ loads").next().expect("a text"));
        let json = serde_json::to_string(&first).expect("JSON");
        assert_eq!(spec(&json), first);
        seen += 1;
    }
    assert!(seen > 4);
}

/// `web` and `web-1` side by side: an id is cut at its last dash, so none belongs to both.
#[test]
fn instances_of_groups_that_end_in_numbers() {
    let groups = ["web", "web-1", "web-1-0"];
    let ids: Vec<InstanceId> =
        groups.iter().flat_map(|group| (0..3).map(|slot| InstanceId { group: name(group), slot })).collect();
    let mut texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    for (id, text) in ids.iter().zip(&texts) {
        assert_eq!(text.parse::<InstanceId>().as_ref(), Ok(id));
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), ids.len());
}
