//! Hostile values: each arrives as it is, as data, or is refused.

use super::book::Book;
use super::{ask, id_of, request, router, send, text};
use regrow_model::run::{ModuleArgs, Play, Task};
use regrow_model::spec::survey::{is_host, is_name};
use serde_json::{Value, json};

/// Shells, YAML, Jinja, options, lines, paths, and what decoders stumble over.
const CORPUS: [&str; 32] = [
    "; reboot",
    "$(reboot)",
    "`reboot`",
    "a | tee /etc/passwd",
    "a && reboot",
    "'; drop table runs; --",
    "\"quoted\" 'twice'",
    "${host}",
    "$HOME",
    "{{ lookup('pipe', 'reboot') }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{# comment #}",
    "!unsafe x",
    "!!python/object/apply:os.system [reboot]",
    "a: b",
    "- a\n- b",
    "&anchor *alias",
    "-e @/etc/passwd",
    "--become",
    "-oProxyCommand=reboot",
    "@/etc/passwd",
    "all,!web1",
    "~.*",
    "web1\nroot",
    "web1\r\nx-injected: 1",
    "web1\0",
    "\u{1b}[2Jcleared",
    "../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc",
    "\u{202e}\u{feff}",
    "𝕨𝕖𝕓1",
];

fn escaped(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// No request with a hostile value is answered by an error of ours, and no refusal repeats a control character raw.
fn sane(status: u16, answer: &str, value: &str) {
    assert!(status == 200 || status == 400, "{value:?}: {status} {answer}");
    assert!(!answer.chars().any(|c| c.is_control()), "{value:?}: {answer:?}");
}

/// Through each field of the story's interface: a host and a name take nothing hostile; free text stays one text.
#[tokio::test]
async fn fields_of_the_story() {
    let good =
        [("host", "web1"), ("role", "nginx"), ("env", "staging"), ("tags", "api"), ("mod", "shell"), ("args", "id")];
    let requests: [(&str, &[&str]); 4] = [
        ("POST /ansible/role/", &["host", "role", "env"]),
        ("POST /ansible/update-code/", &["tags", "env"]),
        ("GET /ansible/adhoc/", &["host", "mod", "args"]),
        ("POST /ansible/set_eip/", &["instance_id", "role", "env"]),
    ];
    for (line, fields) in requests {
        for hostile in fields {
            for value in CORPUS {
                let book = Book::new();
                let routes = router(&book);
                let of = |field: &str| good.iter().find(|(name, _)| *name == field).map_or("i-0", |(_, good)| *good);
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|field| format!("{field}={}", escaped(if field == hostile { value } else { of(field) })))
                    .collect();
                let query = pairs.join("&");
                let is_get = line.starts_with("GET");
                let target = if is_get { format!("{line}?{query}") } else { line.to_owned() };
                let form = [("content-type", "application/x-www-form-urlencoded")];
                let sent = request(&target, &form, if is_get { String::new() } else { query });
                let (status, answer) = text(send(&routes, sent).await).await;
                sane(status, &answer, value);
                let runs = book.all();
                assert_eq!(runs.len(), usize::from(status == 200));
                let Some(run) = runs.first() else { continue };
                assert!(run.order.hosts.iter().all(|host| is_host(host)), "{value:?}: {:?}", run.order.hosts);
                let Task::Ansible(task) = &run.order.task else { panic!("{:?}", run.order.task) };
                assert!(task.tags.iter().all(|tag| is_name(tag)), "{value:?}");
                match &task.play {
                    Play::Roles(roles) => assert!(roles.iter().all(|role| is_name(role)), "{value:?}"),
                    Play::Module { name, args } => {
                        assert_eq!((*hostile, name.as_str()), ("args", "shell"), "{value:?}");
                        assert_eq!(args, &ModuleArgs::Command(value.to_owned()), "it is one text");
                    }
                    Play::Playbook(path) => assert!(matches!(path.as_str(), "code.yml" | "site.yml")),
                }
            }
        }
    }
}

/// Through the interface of our own: as text it stays one word of the command, in other places it is refused.
#[tokio::test]
async fn parameters_of_runs() {
    let book = Book::new();
    let routes = router(&book);
    for value in CORPUS {
        let (status, answer) =
            ask(&routes, "POST /api/runs", json!({"job": "nightly", "parameters": {"note": value}})).await;
        sane(status, &answer.to_string(), value);
        if status == 200 {
            let Task::Exec(task) = &book.one(&id_of(&answer)).order.task.clone() else { panic!("an exec") };
            assert_eq!(task.command, ["/usr/bin/nightly", "1", &format!("note={value}")]);
        }
        for wish in [
            json!({"job": value}),
            json!({"job": "nightly", "parameters": {"day": value}}),
            json!({"job": "nightly", "parameters": {(value): "x"}}),
            json!({"job": "ansible-role", "parameters": {"host": "web1", "role": "x"}, "limit": [value]}),
        ] {
            let (status, answer) = ask(&routes, "POST /api/runs", wish.clone()).await;
            assert_eq!(status, 400, "{wish}: {answer}");
        }
        let before = book.all().len();
        for line in ["GET /api/runs/", "GET /api/jobs/", "GET /ansible/results/", "POST /api/runs?job="] {
            let line = format!("{line}{}", escaped(value).replace('+', "%20"));
            let (status, answer) = ask(&routes, &line, Value::Null).await;
            assert!(matches!(status, 400 | 404), "{line}: {status} {answer}");
        }
        assert_eq!(book.all().len(), before);
    }
}
