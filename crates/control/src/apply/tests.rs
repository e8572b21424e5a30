//! What a wish changes, told by its differences and the keys that it writes; and what is refused.

use super::*;
use regrow_model::{InstanceId, Revision};
use std::time::Duration;

const SPEC: &str = "
cluster: shop
services: {web: {checks: [{tcp: true}]}}
groups:
  web: {service: web, size: 3, provider: process, command: [serve]}
  db: {size: 1, provider: process, command: [db], port: 5432, environment: {PASSWORD: s3cret}}
templates:
  list: {source: list.j2, destination: list}
";

fn resolved(spec: &str) -> Resolved {
    let files = [("regrow.yaml".to_owned(), spec.to_owned())];
    let sources = BTreeMap::from([("list.j2".to_owned(), "{{ services.web | length }}\n".to_owned())]);
    resolve("/srv", &files, &sources).unwrap_or_else(|errors| panic!("{}", errors.render(&files, false)))
}

fn cause() -> CauseId {
    CauseId::new(Time(1), 1)
}

/// The view after a transaction.
fn after(mut view: View, recorded: Recorded) -> View {
    let revision = Revision(view.revision.0 + 1);
    for change in recorded.changes {
        match change {
            Change::Put(record) => view.put(record, revision),
            Change::Delete(key) => view.delete(&key),
        }
    }
    view
}

fn applied(view: View, spec: &str) -> View {
    let applied = apply(&view, &resolved(spec), &cause(), Time(1));
    after(view, applied.recorded)
}

/// Differences as lines.
fn told(view: &View, spec: &str) -> Vec<String> {
    let applied = apply(view, &resolved(spec), &cause(), Time(1));
    let line = |difference: &Difference| {
        format!("{:?} {} {}", difference.verb, difference.object, difference.fields.join(", ")).trim_end().to_owned()
    };
    applied.differences.iter().map(line).collect()
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Everything is new once; the second time nothing is to be done.
#[test]
fn applying_twice_changes_nothing() {
    let all = ["cluster/shop", "service/web", "group/db", "group/web", "template/list"].map(|o| format!("Create {o}"));
    assert_eq!(told(&View::default(), SPEC), all);
    let view = applied(View::default(), SPEC);
    assert_eq!(told(&view, SPEC), Vec::<String>::new());
    let again = apply(&view, &resolved(SPEC), &cause(), Time(9));
    assert_eq!(again.recorded, Recorded::default(), "no event is recorded for nothing");
}

/// An update names the fields; what left the spec is removed; another source is another template.
#[test]
fn differences_name_what_changes() {
    let view = applied(View::default(), SPEC);
    assert_eq!(told(&view, &SPEC.replace("size: 3", "size: 6")), ["Update group/web size: 3 → 6"]);
    let without = SPEC.replace("  web: {service: web, size: 3, provider: process, command: [serve]}\n", "");
    assert_eq!(told(&view, &without), ["Remove group/web"]);
    let mut other = resolved(SPEC);
    other.sources.get_mut(&name("list")).expect("it is there")[0].text.push('!');
    let differences = apply(&view, &other, &cause(), Time(1)).differences;
    assert_eq!(differences.len(), 1);
    assert!(differences[0].fields[0].starts_with("list.j2: "), "{differences:?}");
}

/// A secret in a group's environment is in no difference.
#[test]
fn environments_are_not_shown() {
    let view = applied(View::default(), SPEC);
    let told = told(&view, &SPEC.replace("s3cret", "n3w-s3cret"));
    assert!(told.len() == 1 && told[0].starts_with("Update group/db environment"), "{told:?}");
    assert!(!told[0].contains("s3cret"), "{told:?}");
}

/// Scaling and replacing change one record; a replacement is a new version, a size is not.
#[test]
fn scaling_keeps_the_version_and_replacing_does_not() {
    let view = applied(View::default(), SPEC);
    let version = view.groups[&name("web")].version();
    let scaled = after(view.clone(), scale(&view, &name("web"), 6, &cause()).expect("it fits"));
    assert_eq!((scaled.groups[&name("web")].spec.size, scaled.groups[&name("web")].version()), (6, version));
    let replaced = after(view.clone(), replace(&view, &name("web"), &cause()).expect("it is there"));
    assert_ne!(replaced.groups[&name("web")].version(), version);
    assert_eq!(scale(&view, &name("web"), 3, &cause()), Ok(Recorded::default()), "it has that size");
    let again = applied(replaced, SPEC);
    assert_ne!(again.groups[&name("web")].version(), version, "applying does not take a replacement back");
}

/// What cannot be done is refused with the reason.
#[test]
fn orders_that_make_no_sense_are_refused() {
    let view = applied(View::default(), &SPEC.replace("size: 3,", "size: 3, min_healthy: 2,"));
    let refused = |result: Result<Recorded, OrderError>| result.expect_err("refused").to_string();
    let at = |group: &str, size| scale(&view, &name(group), size, &cause());
    assert!(refused(at("wob", 1)).contains("there is no group `wob`: there are db, web"));
    assert!(refused(at("web", 1)).contains("min_healthy = 2"));
    assert!(refused(at("web", 10_001)).contains("not 10001"));
    assert!(refused(at("db", 2)).contains("fixed port 5432"));
    assert!(refused(replace(&View::default(), &name("web"), &cause())).contains("no spec was applied yet"));
    let nobody = InstanceId { group: name("web"), slot: 0 };
    assert!(refused(restart(&view, &[nobody], &cause())).contains("there is no instance `web-0`"));
    assert!(refused(resume(&view, &cause())).contains("not paused"));
}

/// A pause ends by `resume`; halting twice is one halt.
#[test]
fn pause_and_halt_are_records() {
    let view = applied(View::default(), SPEC);
    let paused = after(view.clone(), pause(&view, "failover", Some(Duration::from_secs(60)), &cause(), Time(1_000)));
    assert_eq!(paused.pause.as_ref().and_then(|pause| pause.until), Some(Time(61_000)));
    assert!(after(paused.clone(), resume(&paused, &cause()).expect("it is paused")).pause.is_none());
    let halted = after(view.clone(), halt(&view, &cause(), Time(1)));
    assert_eq!(halt(&halted, &cause(), Time(2)), Recorded::default());
}

/// Errors of the spec and of the sources are told before anything changes.
#[test]
fn broken_sources_are_refused() {
    let refuse = |sources: &[(&str, &str)]| {
        let files = [("regrow.yaml".to_owned(), SPEC.to_owned())];
        let sources = sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        resolve("/srv", &files, &sources).expect_err("refused").render(&files, false)
    };
    assert!(refuse(&[]).contains("template/list: the source list.j2 was not sent along"));
    let broken = refuse(&[("list.j2", "line one\n{% for x in %}")]);
    assert!(broken.contains("list.j2:2:"), "{broken}");
}
