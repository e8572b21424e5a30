//! Jinja sources: what they find in their names, and that a slip is an error with its place.

use super::cluster::{Cluster, name};
use crate::features::template;
use regrow_model::desired;
use regrow_model::key::Record;
use regrow_model::observed::Node;
use regrow_model::{Revision, spec};
use serde_json::json;

fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.endpoints(&["web-10:21010", "web-2:21002"]);
    let spec = spec::Service { checks: Vec::new(), tags: vec!["blue".to_owned(), "v2".to_owned()] };
    let cause = cluster.cause();
    cluster.put(Record::DesiredService(name("web"), desired::Service { spec, cause: cause.clone() }));
    cluster.put(Record::DesiredService(name("my-db"), desired::Service { spec: spec::Service::default(), cause }));
    let node = Node { address: "10.0.0.7".to_owned(), version: "0.1.0".to_owned(), since: cluster.now, away: false };
    cluster.put(Record::Node(name("n1"), node));
    cluster.key("/proxy/a", Some("1"));
    cluster.key("/proxy/b/c", Some("2"));
    cluster.view.local.environment.insert("HOME".to_owned(), "/root".to_owned());
    cluster
}

fn check(table: &[(&str, &str)]) {
    for (source, expect) in table {
        assert_eq!(cluster().render("a.cfg.j2", source), *expect, "{source}");
    }
}

#[test]
fn services_vars_cluster_and_node() {
    check(&[
        // In the order of the instances, not of the text.
        (
            "{% for e in services.web %}{{ e.id }} {{ e.address }}:{{ e.port }} {{ e.node }} {{ e.tags|join(',') }}\n{% endfor %}",
            "web-2 127.0.0.1:21002 n1 blue,v2\nweb-10 127.0.0.1:21010 n1 blue,v2\n",
        ),
        ("{{ services.web|length }} {{ services['my-db']|length }} {{ services.web[0].name }}", "2 0 web-2"),
        ("{% for e in services['my-db'] %}x{% else %}none{% endfor %}", "none"),
        ("{{ services.web|map(attribute='port')|join(' ') }}", "21002 21010"),
        ("{{ services.web|selectattr('port', 'gt', 21005)|map(attribute='id')|join }}", "web-10"),
        ("{% for name in services %}{{ name }} {% endfor %}", "my-db web "),
        (
            "{{ services.web[0]|tojson }}",
            r#"{"id": "web-2", "name": "web-2", "instance": "web-2", "node": "n1", "address": "127.0.0.1", "port": 21002, "tags": ["blue", "v2"]}"#,
        ),
        ("{{ cluster }} {{ node.name }} {{ node.address }}", "shop n1 10.0.0.7"),
    ]);
    let mut cluster = cluster();
    cluster.template("{{ vars.limit + 1 }} {{ vars.names|join('-') }} {{ vars.deep.on }}", |spec| {
        for (key, value) in [("limit", json!(41)), ("names", json!(["a", "b"])), ("deep", json!({"on": true}))] {
            spec.vars.insert(key.to_owned(), value);
        }
    });
    let set = template::render(&cluster.view, &name("n1"), &name("web")).unwrap();
    assert_eq!(&*set.files[0].content, "42 a-b True");
}

#[test]
fn keys_and_environment() {
    check(&[
        (
            "{{ getv('/proxy/a') }} {{ getv('/no', 'd') }} {{ exists('/proxy/a') }} {{ exists('/no') }}",
            "1 d True False",
        ),
        ("{% for p in gets('/proxy') %}{{ p.key }}={{ p.value }} {% endfor %}", "/proxy/a=1 /proxy/b/c=2 "),
        ("{% for p in gets('/proxy/*') %}{{ p.key }} {% endfor %}", "/proxy/a "),
        ("{{ ls('/proxy')|join(' ') }}", "a b"),
        ("{{ env('HOME') }} {{ env('NO', 'd') }}", "/root d"),
    ]);
}

#[test]
fn lines_of_blocks_leave_nothing_behind_and_the_last_newline_stays() {
    check(&[
        ("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc\n"),
        ("a\n  {%+ if true %}b{% endif %}\n", "a\n  b"),
        ("a\n\n", "a\n\n"),
        ("<a href=\"{{ '<&>' }}\">", "<a href=\"<&>\">"),
    ]);
}

#[test]
fn the_language_itself() {
    check(&[
        ("{% macro line(x) %}<{{ x }}>{% endmacro %}{{ line(1) }}{{ line(2) }}", "<1><2>"),
        ("{% for i in range(3) %}{{ loop.index }}{% if not loop.last %},{% endif %}{% endfor %}", "1,2,3"),
        ("{% for i in range(9) if i is odd %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}", "13"),
        ("{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "6"),
        ("{{ 'a,b'|split(',')|last|upper }} {{ '%03d'|format(7) }} {{ [3,1,2]|sort|join }}", "B 007 123"),
        ("{{ nope|default('d') }} {{ nope is defined }}", "d False"),
        ("{# gone #}{% raw %}{{ kept }}{% endraw %}", "{{ kept }}"),
    ]);
}

#[test]
fn what_is_not_there_is_an_error_with_its_place() {
    check(&[
        ("a\n  {{ services.wbe|length }}", "error: a.cfg.j2:2:6: no service is called `wbe`; did you mean `web`?"),
        ("{{ servces.web }}", "error: a.cfg.j2:1:4: `servces` is undefined; did you mean `services`?"),
        (
            "{% for e in services.web %}{{ e.adress }}{% endfor %}",
            "error: a.cfg.j2:1:31: `e.adress` is undefined; did you mean `address`?",
        ),
        ("{{ vars.nope }}", "error: a.cfg.j2:1:4: `vars.nope` is undefined"),
        ("x\n{{ getv('/no') }}", "error: a.cfg.j2:2:4: the key `/no` does not exist: set it, or give a default"),
        (
            "{{ env('NO') }}",
            "error: a.cfg.j2:1:4: the agent's environment has no `NO`: set it, or give a default, as env(\"NO\", \"…\")",
        ),
        ("{% for e in %}", "error: a.cfg.j2:1:13: unexpected end of block"),
        ("{{ 1 + 'a' }}", "error: a.cfg.j2:1:4: tried to use + operator on unsupported types number and string"),
        ("{{ 'a'|upcase }}", "error: a.cfg.j2:1:8: filter upcase is unknown"),
        ("{% include 'x' %}", "error: a.cfg.j2:1:4: tried to include non-existing template 'x'"),
    ]);
    let error = template::validate("a.cfg.j2", "a\n{{ b").unwrap_err();
    assert!(error.to_string().starts_with("a.cfg.j2:2:"), "{error}");
    assert_eq!(
        template::validate("a.cfg.j2", "{{ anything.goes }}"),
        Ok(()),
        "values are not known when it is applied"
    );
}

#[test]
fn an_unknown_template_and_a_record_that_does_not_hold_together() {
    let mut cluster = cluster();
    cluster.template("", |spec| spec.mode = Some("rw".to_owned()));
    let error = |cluster: &Cluster, asked: &str| {
        template::render(&cluster.view, &name("n1"), &name(asked)).unwrap_err().to_string()
    };
    assert_eq!(error(&cluster, "wbe"), "no template is called `wbe`; did you mean `web`?");
    assert_eq!(error(&cluster, "web"), "mode `rw` is not octal, as 0644 is");
    cluster.template("", |spec| {
        spec.files =
            serde_json::from_value(json!([{"source": "a", "destination": "a"}, {"source": "b", "destination": "/b"}]))
                .unwrap();
    });
    assert_eq!(error(&cluster, "web"), "the source of /b is missing from its record: apply the spec again");
}

#[test]
fn what_was_read_is_recorded_and_nothing_else() {
    let mut cluster = cluster();
    cluster.template("{{ services.web|length }}{{ node.address }}{{ env('HOME') }}", |spec| {
        spec.keys = vec!["/proxy".to_owned()];
        spec.guard.min.insert(name("my-db"), 0);
    });
    let inputs = template::render(&cluster.view, &name("n1"), &name("web")).unwrap().inputs;
    assert_eq!(inputs.template, cluster.view.templates[&name("web")].revision);
    let services: Vec<(&str, Revision)> = inputs.services.iter().map(|(name, at)| (name.as_str(), *at)).collect();
    let index = cluster.view.service_index[&name("web")].revision;
    assert_eq!(services, [("my-db", Revision::ZERO), ("web", index)]);
    assert_eq!(inputs.healthy[&name("web")], 2);
    let keys: Vec<&str> = inputs.keys.keys().map(String::as_str).collect();
    assert_eq!(keys, ["/proxy", "/regrow/desired/service/web", "/regrow/observed/node/n1", "env:HOME"]);
    assert_eq!(inputs.keys["/proxy"].1, 2);
}
