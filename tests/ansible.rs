//! The example `ansible`: a job server in front of real `sshd`s, driven by plain `curl`, by the command line and by the
//! API. Skipped, and said, where `sshd` or `ansible-playbook` is missing or this is not root.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use support::sshd::Hosts;
use support::{Cluster, until};

/// Hosts of each of the two environments.
const HOSTS_EACH: usize = 4;

/// The example, its agent, and the hosts that its inventory names.
struct Site {
    hosts: Hosts,
    cluster: Cluster,
    http: u16,
}

impl Site {
    /// `net` is the third number of the hosts' addresses.
    fn start(net: u8) -> Option<Site> {
        if !Path::new("/usr/bin/ansible-playbook").exists() {
            eprintln!("skipped: ansible-playbook is not installed: install ansible-core");
            return None;
        }
        let mut cluster = Cluster::empty();
        let addresses: Vec<String> = (1..=2 * HOSTS_EACH).map(|host| format!("127.0.{net}.{host}")).collect();
        let port = cluster.ports.one();
        let hosts = Hosts::start(&addresses, port)?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ansible");
        let copied =
            Command::new("cp").arg("-r").arg(format!("{}/.", example.display())).arg(cluster.folder.path()).status();
        assert!(copied.expect("cp runs").success());
        std::fs::create_dir_all(cluster.path("run")).expect("a folder");
        cluster.write("run/webhook.secret", "a secret of the test\n");
        for (env, addresses) in [("dev", &addresses[..HOSTS_EACH]), ("prod", &addresses[HOSTS_EACH..])] {
            let listed: String = addresses
                .iter()
                .enumerate()
                .map(|(at, address)| format!("{env}{at} ansible_host={address}\n"))
                .collect();
            let vars = format!(
                "[{env}:vars]\nansible_ssh_common_args=-F {}\nansible_port={port}\nansible_python_interpreter=/usr/bin/python3\nplace={}\n",
                hosts.path("ssh_config").display(),
                cluster.path("place").display()
            );
            cluster.write(&format!("inventory/{env}/hosts"), &format!("[{env}]\n{listed}\n{vars}"));
        }
        let http = cluster.ports.one();
        cluster.start_with(
            &["up"],
            &[
                ("REGROW_HTTP", &format!("127.0.0.1:{http}")),
                ("XDG_RUNTIME_DIR", hosts.path("run").to_str().expect("UTF-8")),
            ],
        );
        cluster.until_healthy();
        Some(Site { hosts, cluster, http })
    }

    /// What `curl` prints, and the status that it was given.
    fn curl(&self, words: &[&str], path: &str) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-w", "\n%{http_code}"]).args(words).arg(format!("http://127.0.0.1:{}{path}", self.http));
        let output = command.output().expect("curl runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let (body, status) =
            text.rsplit_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (status.parse().expect("a status"), body.to_owned())
    }

    /// The id that a request is answered with.
    fn id(&self, words: &[&str], path: &str) -> String {
        let (status, id) = self.curl(words, path);
        assert_eq!((status, id.len()), (200, 16), "{path}: {id}");
        id
    }

    fn results(&self, id: &str) -> String {
        let (status, text) = self.curl(&[], &format!("/ansible/results/{id}"));
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The recap, when it is there.
    fn recap(&self, id: &str) -> Value {
        until("the run has a recap", || match self.results(id).as_str() {
            "in-queue" | "waiting" => None,
            text => Some(
                serde_json::from_str(text)
                    .unwrap_or_else(|_| panic!("{text}: {}", self.cluster.ok(&["job", "logs", id]))),
            ),
        })
    }

    fn place(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.cluster.path("place").join(file)).ok()
    }
}

/// Shows every endpoint of the interface that scripts know, with the recap host by host.
#[test]
fn every_endpoint_by_curl() {
    let Some(site) = Site::start(45) else { return };
    let role = site.id(&["-d", "host=dev1&role=motd,web&env=dev"], "/ansible/role/");
    let code = site.id(&["-d", "tags=api,site&env=prod"], "/ansible/update-code/");
    let adhoc = site.id(
        &["-G", "-d", "host=all", "-d", "mod=command", "--data-urlencode", "args=echo 'it is me'"],
        "/ansible/adhoc/",
    );
    let eip = site.id(&["-d", "instance_id=i-0123456789abcdef0&role=web&env=dev"], "/ansible/set_eip/");
    let recap = site.recap(&role);
    assert_eq!(recap.as_object().expect("hosts").keys().collect::<Vec<_>>(), ["dev1"]);
    for count in ["ok", "changed", "unreachable", "failures", "skipped"] {
        assert!(recap["dev1"][count].is_u64(), "{recap}");
    }
    assert_eq!((&recap["dev1"]["failures"], &recap["dev1"]["unreachable"]), (&0.into(), &0.into()));
    assert!(
        site.place("dev1.motd").is_some() && site.place("dev1.html").is_some() && site.place("dev2.motd").is_none()
    );
    let recap = site.recap(&code);
    assert_eq!(recap.as_object().expect("hosts").len(), HOSTS_EACH);
    assert!(recap.as_object().expect("hosts").values().all(|host| host["failures"] == 0 && host["ok"] == 3), "{recap}");
    assert_eq!(
        (site.place("prod3.api").as_deref(), site.place("prod0.site").as_deref()),
        (Some("api\n"), Some("site\n"))
    );
    assert_eq!(site.recap(&adhoc).as_object().expect("hosts").len(), 2 * HOSTS_EACH);
    assert!(site.cluster.ok(&["job", "logs", &adhoc]).contains("it is me"));
    assert!(site.recap(&eip).is_object());
    assert_eq!(site.place("dev-web.eip").as_deref(), Some("i-0123456789abcdef0\n"));
}

/// Shows each state of the results: in line behind the host's other run, under way, failed, recap of a failure, and unknown.
#[test]
fn every_state_by_curl() {
    let Some(site) = Site::start(46) else { return };
    site.cluster.write("roles/motd/tasks/main.yml", "- wait_for: {path: '{{ place }}/go', timeout: 60}\n");
    let first = site.id(&["-d", "host=dev0&role=motd&env=dev"], "/ansible/role/");
    let second = site.id(&["-d", "host=dev0&role=web&env=dev"], "/ansible/role");
    until("the first is under way", || (site.results(&first) == "waiting").then_some(()));
    assert_eq!(site.results(&second), "in-queue");
    let why = site.cluster.ok(&["job", "status", &second]);
    assert!(why.contains(&first), "it does not say for what it waits: {why}");
    std::fs::create_dir_all(site.cluster.path("place")).expect("a folder");
    site.cluster.write("place/go", "");
    assert!(site.recap(&first)["dev0"]["ok"].as_u64() >= Some(1));
    assert_eq!(site.recap(&second)["dev0"]["failures"], 0);
    let failed = site.id(&["-d", "host=dev0&role=no-such-role&env=dev"], "/ansible/role/");
    until("it has failed", || (site.results(&failed) == "failed").then_some(()));
    let bad = site.id(&["-G", "-d", "host=dev2", "-d", "mod=command", "-d", "args=false"], "/ansible/adhoc/");
    assert_eq!(site.recap(&bad)["dev2"]["failures"], 1);
    assert_eq!(site.curl(&[], "/ansible/results/0000000000000000").0, 404);
    for (words, path) in [
        (vec!["-d", "host=dev0;reboot&role=web"], "/ansible/role/"),
        (vec!["-d", "role=web"], "/ansible/role/"),
        (vec!["-d", "host=dev0&role=web&surprise=1"], "/ansible/role/"),
        (vec!["-d", "host=dev0&role=web&env=staging"], "/ansible/role/"),
        (vec!["-d", "instance_id=i-1;id&role=web"], "/ansible/set_eip/"),
        (vec!["-H", "Origin: http://evil.example", "-d", "host=dev0&role=web"], "/ansible/role/"),
    ] {
        let (status, text) = site.curl(&words, path);
        assert!((400..500).contains(&status), "{words:?}: {status} {text}");
    }
}

/// Shows the same by the command line and by the API: submit, follow, list, rerun on the hosts that failed.
#[test]
fn by_the_command_line_and_the_api() {
    let Some(site) = Site::start(47) else { return };
    let out = site.cluster.ok(&["job", "run", "ansible-role", "host=dev3", "role=motd,web", "env=dev"]);
    assert!(out.contains("the page") && out.contains("dev3"), "{out}");
    let run = r#"{"job": "ansible-update-code", "parameters": {"tags": ["api"], "env": "dev"}, "key": "once"}"#;
    let submit = || site.curl(&["-H", "content-type: application/json", "-d", run], "/api/runs");
    let (status, accepted) = submit();
    assert_eq!(status, 200, "{accepted}");
    let accepted: Value = serde_json::from_str(&accepted).expect("JSON");
    let id = accepted["id"].as_str().expect("an id").to_owned();
    assert_eq!(serde_json::from_str::<Value>(&submit().1).expect("JSON")["id"], accepted["id"], "once is once");
    let (_, events) = site.curl(&["-N"], &format!("/api/runs/{id}/events"));
    assert!(
        events.contains("event: line") && events.contains("\"outcome\":\"changed\"") && events.contains("event: end"),
        "{events}"
    );
    let (_, run) = site.curl(&[], &format!("/api/runs/{id}"));
    let run: Value = serde_json::from_str(&run).expect("JSON");
    assert_eq!((&run["state"], &run["result"]["recap"]["dev0"]["failures"]), (&"succeeded".into(), &0.into()), "{run}");
    site.cluster.write(
        "roles/web/tasks/main.yml",
        "- command: 'false'\n  when: inventory_hostname == 'dev1' and not ('/tmp/no' is exists)\n",
    );
    let script = "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: 'test $(cat {{ place }}/{{ inventory_hostname }}.state) = good'\n      tags: [state]\n";
    site.cluster.write("update-code.yaml", script);
    for host in 0..HOSTS_EACH {
        site.cluster.write(&format!("place/dev{host}.state"), if host == 2 { "bad" } else { "good" });
    }
    let output = site.cluster.run(&["job", "run", "ansible-update-code", "tags=state", "env=dev"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let runs: Value =
        serde_json::from_str(&site.cluster.ok(&["job", "runs", "ansible-update-code", "--state", "failed", "--json"]))
            .expect("JSON");
    let failed = runs[0]["id"].as_str().expect("an id").to_owned();
    site.cluster.write("place/dev2.state", "good");
    let out = site.cluster.ok(&["job", "retry", &failed, "--failed-hosts"]);
    assert!(out.contains("dev2") && !out.contains("dev1"), "{out}");
    assert!(!site.hosts.log().is_empty(), "real sshds were spoken to");
}

/// What somebody might send to have something else done. `MADE` stands for a file that must not come to be.
const HOSTILE: [&str; 14] = [
    "x; touch MADE",
    "$(touch MADE)",
    "`touch MADE`",
    "x\ntouch MADE",
    "| touch MADE",
    "{{ lookup('pipe', 'touch MADE') }}",
    "{% set x = lookup('pipe', 'touch MADE') %}",
    "x\"\n  - hosts: all\n    tasks: [{command: touch MADE}]\n# ",
    "!!python/object/apply:os.system ['touch MADE']",
    "-e @/etc/passwd",
    "--extra-vars=x",
    "-oProxyCommand=touch MADE",
    "../../../../etc/passwd",
    "all:!dev0",
];

/// Shows that hostile values in every field of every endpoint are refused, or are data to what they are given to.
#[test]
fn hostile_values_by_every_endpoint() {
    let Some(site) = Site::start(49) else { return };
    let made = site.cluster.path("made");
    let fields: [(&str, &str, &[&str]); 4] = [
        ("-d", "/ansible/role/", &["host=dev0", "role=motd", "env=dev"]),
        ("-d", "/ansible/update-code/", &["tags=api", "env=dev"]),
        ("-G", "/ansible/adhoc/", &["host=dev0", "mod=ping", "args="]),
        ("-d", "/ansible/set_eip/", &["instance_id=i-0123456789abcdef0", "role=web", "env=dev"]),
    ];
    let mut accepted = Vec::new();
    for (how, path, good) in fields {
        for at in 0..good.len() {
            for hostile in HOSTILE {
                let hostile = hostile.replace("MADE", made.to_str().expect("UTF-8"));
                let mut words = if how == "-G" { vec!["-G"] } else { Vec::new() };
                let name = good[at].split('=').next().expect("a name");
                let bad = format!("{name}={hostile}");
                for (place, field) in good.iter().enumerate() {
                    words.extend(["--data-urlencode", if place == at { &bad } else { field }]);
                }
                let (status, text) = site.curl(&words, path);
                if status == 200 {
                    accepted.push((name.to_owned(), text));
                } else {
                    assert!((400..500).contains(&status) && !text.contains("MADE"), "{path} {bad}: {status} {text}");
                }
            }
        }
    }
    assert!(accepted.iter().all(|(name, _)| name == "args"), "only free text is taken: {accepted:?}");
    for args in ["touch MADE; touch MADE", "echo {{ lookup('pipe', 'touch MADE') }} `touch MADE` $(touch MADE)"] {
        let args = format!("args=echo {}", args.replace("MADE", made.to_str().expect("UTF-8")));
        let words = ["-G", "-d", "host=dev0", "-d", "mod=command", "--data-urlencode", &args];
        accepted.push(("args".to_owned(), site.id(&words, "/ansible/adhoc/")));
    }
    for (_, id) in &accepted {
        until("it has ended", || (!["in-queue", "waiting"].contains(&site.results(id).as_str())).then_some(()));
    }
    assert!(!made.exists(), "something was run");
}

/// Shows a webhook: what is signed starts its job once, whoever sends it again; what is not signed starts nothing.
#[test]
fn webhooks() {
    let Some(site) = Site::start(50) else { return };
    let body = r#"{"tags": "api", "env": "dev", "ref": "refs/heads/main"}"#;
    site.cluster.write("body", body);
    let signed = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", "a secret of the test", "-r"])
        .arg(site.cluster.path("body"))
        .output()
        .expect("openssl runs");
    let signature = String::from_utf8(signed.stdout).expect("UTF-8");
    let signature = format!("X-Hub-Signature-256: sha256={}", signature.split_whitespace().next().expect("a digest"));
    let send = |signature: &str| {
        let json =
            ["-H", "content-type: application/json", "-H", "X-GitHub-Delivery: 72d3162e", "-H", signature, "-d", body];
        site.curl(&json, "/api/hooks/ansible-update-code")
    };
    let (status, first) = send(&signature);
    assert_eq!(status, 200, "{first}");
    assert_eq!(send(&signature).1, first, "a delivery is one run");
    let wrong = signature.replace("sha256=", "sha256=0");
    assert!((400..500).contains(&send(&wrong[..wrong.len() - 1]).0));
    let id = serde_json::from_str::<Value>(&first).expect("JSON")["id"].as_str().expect("an id").to_owned();
    assert_eq!(site.recap(&id).as_object().expect("hosts").len(), HOSTS_EACH);
    let runs: Value = serde_json::from_str(&site.cluster.ok(&["job", "runs", "--json"])).expect("JSON");
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
}
