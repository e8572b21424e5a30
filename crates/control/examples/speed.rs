//! Measures the pure part: rendering 1,000 services of 10 endpoints into one file, and planning 10,000 instances.
//!
//! `cargo run --release -p regrow-control --example speed` prints one JSON object: medians and worst of several runs, in
//! milliseconds.

#![expect(clippy::print_stdout, clippy::disallowed_types, reason = "a measuring program has a clock and an output")]

use regrow_control::features::template;
use regrow_control::reconcile::{Command, Input, Output, Reconciler, StoreChange};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{Endpoint, EndpointState, Node, Service};
use regrow_model::process::ProcessId;
use regrow_model::{CauseId, Found, InstanceId, Name, Observation, Outcome, Revision, Time, View};
use std::collections::BTreeMap;
use std::time::Instant;

/// Runs of each measurement.
const RUNS: usize = 21;

fn main() {
    let (render, bytes) = render();
    let plan = plan();
    println!(
        "{}",
        serde_json::json!({
            "render_10000_endpoints_ms": render,
            "render_bytes": bytes,
            "plan_10000_instances_ms": plan,
        })
    );
}

/// Median and worst.
fn measure(mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[RUNS / 2], times[RUNS - 1])
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

const SPEC: &str = "
cluster: speed
services: SERVICES
groups: GROUPS
templates:
  all: {source: all.j2, destination: out/all}
";

const SOURCE: &str = "{% for name, endpoints in services | items %}
backend {{ name }}
{% for endpoint in endpoints %}
    server {{ endpoint.id }} {{ endpoint.address }}:{{ endpoint.port }}
{% endfor %}
{% endfor %}
";

/// A spec with so many services of one group each.
fn spec(services: usize, size: usize) -> regrow_control::apply::Resolved {
    let all =
        |each: &dyn Fn(usize) -> String| format!("{{{}}}", (0..services).map(each).collect::<Vec<_>>().join(", "));
    let text = SPEC.replace("SERVICES", &all(&|n| format!("s{n}: {{checks: [{{tcp: true}}]}}"))).replace(
        "GROUPS",
        &all(&|n| {
            let range = format!("{}-{}", 20_000 + n * size, 20_000 + (n + 1) * size - 1);
            format!("g{n}: {{service: s{n}, size: {size}, provider: process, command: [serve], port: {range}}}")
        }),
    );
    let sources = BTreeMap::from([("all.j2".to_owned(), SOURCE.to_owned())]);
    regrow_control::apply::resolve("/srv", &[("speed.yaml".to_owned(), text)], &sources)
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn render() -> ((f64, f64), usize) {
    let mut view = View::default();
    let cause = CauseId::new(Time(0), 0);
    let applied = regrow_control::apply::apply(&view, &spec(1_000, 10), &cause, Time(0));
    for change in applied.recorded.changes {
        if let Change::Put(record) = change {
            view.put(record, Revision(1));
        }
    }
    for service in 0..1_000 {
        let group = name(&format!("g{service}"));
        let service = name(&format!("s{service}"));
        for slot in 0..10 {
            let instance = InstanceId { group: group.clone(), slot };
            let endpoint = Endpoint {
                node: name("n1"),
                instance: instance.clone(),
                incarnation: 1,
                address: "127.0.0.1".to_owned(),
                port: 20_000 + u16::try_from(slot).expect("small"),
                state: EndpointState::Passing,
                checks: BTreeMap::new(),
                since: Time(0),
                cause: cause.clone(),
            };
            view.put(Record::Endpoint(service.clone(), instance, Box::new(endpoint)), Revision(2));
        }
        view.put(Record::Service(service, Service { cause: cause.clone(), at: Time(0) }), Revision(2));
    }
    let mut bytes = 0;
    let times = measure(|| {
        let set = template::render(&view, &name("n1"), &name("all")).unwrap_or_else(|error| panic!("{error}"));
        bytes = set.files[0].content.len();
    });
    (times, bytes)
}

/// Brings 10,000 instances up through the reconciler with a world that always succeeds, then times its planning.
fn plan() -> (f64, f64) {
    let node = Node { address: "127.0.0.1".to_owned(), version: "0".to_owned(), since: Time(0), away: false };
    let mut reconciler = Reconciler::new(name("n1"), node, BTreeMap::new());
    let mut now = Time(1_000_000);
    let mut revision = 0;
    reconciler.input(Input::Changed { changes: Vec::new(), revision: Revision(0) }, now);
    reconciler.input(Input::Led(Some(Revision(0))), now);
    reconciler
        .input(Input::Adopted { found: Vec::<Found>::new(), loaded: BTreeMap::new(), written: BTreeMap::new() }, now);
    let command = Box::new(Command::Apply(spec(1_000, 10)));
    reconciler.input(Input::Asked { ticket: regrow_control::reconcile::Ticket(1), command }, now);
    for _ in 0..1_000 {
        now = Time(now.0 + 50);
        let outputs = reconciler.poll(now);
        let mut inputs = Vec::new();
        for output in outputs {
            match output {
                Output::Commit { ticket, transaction } => {
                    revision += 1;
                    let changes = transaction.changes.iter().map(|change| StoreChange {
                        key: change.key().to_string(),
                        value: match change {
                            Change::Put(record) => Some(record.to_json().into()),
                            Change::Delete(_) => None,
                        },
                        revision: Revision(revision),
                    });
                    let changes = changes.collect();
                    inputs.push(Input::Committed { ticket, result: Ok(Revision(revision)) });
                    inputs.push(Input::Changed { changes, revision: Revision(revision) });
                }
                Output::Act { ticket, action, .. } => {
                    let process = ProcessId { pid: u32::try_from(ticket.0).expect("small"), start_ticks: 1 };
                    let outcome = match action {
                        regrow_model::Action::Start { .. } => Outcome::Started { process, adopted: false },
                        regrow_model::Action::Install { .. } => Outcome::Installed,
                        _ => Outcome::Loaded { how: "told".to_owned() },
                    };
                    inputs.push(Input::Ended { ticket, outcome });
                }
                Output::Check(targets) => {
                    for target in targets.into_iter().filter(|target| target.starting) {
                        inputs.push(Input::Seen(Observation::Checked {
                            service: target.service,
                            instance: target.instance,
                            incarnation: target.incarnation,
                            check: target.checks[0].label(),
                            passing: true,
                            output: "connected".to_owned(),
                        }));
                    }
                }
                Output::Answer { result, .. } => drop(result.unwrap_or_else(|error| panic!("{error}"))),
                Output::BadRecord(error) => panic!("{error}"),
            }
        }
        if inputs.is_empty() {
            break;
        }
        for input in inputs {
            reconciler.input(input, now);
        }
    }
    let healthy: usize =
        reconciler.view().services.keys().map(|service| reconciler.view().healthy(service).count()).sum();
    assert_eq!(healthy, 10_000, "all instances are up before anything is measured");
    measure(|| {
        let plan = reconciler.plan(now);
        assert!(plan.actions.is_empty(), "nothing is left to do");
    })
}
