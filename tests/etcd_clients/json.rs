//! The JSON gateway: the same answers as a real etcd's, and what only Regrow says.

use crate::support::etcd3::{Agent, Etcd};
use crate::support::http::{ask, post, post_lines};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// One of the two servers that are asked the same.
struct Side<'a> {
    endpoint: &'a str,
    /// Its revision before the first request.
    base: i64,
}

impl<'a> Side<'a> {
    fn new(endpoint: &'a str) -> Side<'a> {
        let answer = post(endpoint, "/v3/kv/range", r#"{"key":"eA=="}"#).json();
        Side { endpoint, base: number(&answer["header"]["revision"]) }
    }

    fn post(&self, path: &str, text: &str) -> Value {
        let answer = post(self.endpoint, path, &self.request(text));
        json!([answer.status, answer.headers.get("content-type"), self.plain("", answer.json())])
    }

    fn lines(&self, path: &str, text: &str, count: usize) -> Vec<Value> {
        let lines = post_lines(self.endpoint, path, &self.request(text), count);
        lines.into_iter().map(|line| self.plain("", line)).collect()
    }

    /// `b(…)` becomes base64 in quotes, `@n` the revision of the beginning plus n.
    fn request(&self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some((before, (inside, after))) =
            text.split_once("b(").map(|(before, rest)| (before, rest.split_once(')').expect("an end")))
        {
            text = format!("{before}\"{}\"{after}", STANDARD.encode(inside));
        }
        (0..=20).rev().fold(text, |text, n| text.replace(&format!("@{n}"), &(self.base + n).to_string()))
    }

    /// Without what differs between any two servers.
    fn plain(&self, name: &str, value: Value) -> Value {
        match value {
            Value::Object(mut fields) => {
                // Of a transaction within a transaction etcd leaves the revision out.
                if name == "response_txn" {
                    fields.insert("header".to_owned(), true.into());
                }
                fields.into_iter().map(|(name, value)| (name.clone(), self.plain(&name, value))).collect()
            }
            Value::Array(mut all) => {
                // The agent has a lease of its own.
                all.retain(|one| name != "leases" || one["ID"] == "77");
                all.into_iter().map(|one| self.plain(name, one)).collect()
            }
            Value::String(_) if matches!(name, "cluster_id" | "member_id" | "raft_term") => true.into(),
            Value::String(_) if name.ends_with("revision") => (number(&value) - self.base).into(),
            // Far from its end, a time differs by what the test takes at most.
            Value::String(_) if name == "TTL" => (number(&value) + 9).div_euclid(10).into(),
            // Of what is no JSON of the call, each server says it in its own words.
            Value::String(text) if matches!(name, "error" | "message") && !text.starts_with("etcdserver: ") => {
                "…".into()
            }
            value => value,
        }
    }
}

fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number as a text"))
}

/// Each request of the script has the same status, kind and body as from a real etcd, whatever the path begins with.
#[test]
fn answers_are_those_of_etcd() {
    let (Some(etcd), Some(agent)) = (Etcd::start(), Agent::start()) else { return };
    let (theirs, ours) = (Side::new(&etcd.endpoint), Side::new(&agent.endpoint));
    let mut differ = Vec::new();
    for line in include_str!("compare.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (path, text) = line.split_once(' ').unwrap_or((line, ""));
        let (expect, told) = (theirs.post(&format!("/v3/{path}"), text), ours.post(&format!("/v3/{path}"), text));
        if expect != told {
            differ.push(format!("{line}\n  etcd:   {expect}\n  regrow: {told}"));
        }
    }
    assert!(differ.is_empty(), "{} answers differ:\n{}", differ.len(), differ.join("\n"));
    let range = r#"{"key":b(k),"range_end":b(l)}"#;
    let told = ours.post("/v3/kv/range", range);
    assert_eq!(ours.post("/v3beta/kv/range", range), told);
    assert_eq!(ours.post("/v3alpha/kv/range", range), told);
}

/// A watch tells line by line what happened and what happens, and what is compacted; a lease is kept alive as often as it
/// is asked; all as a real etcd tells it.
#[test]
fn streams_are_those_of_etcd() {
    let (Some(etcd), Some(agent)) = (Etcd::start(), Agent::start()) else { return };
    let sides = [Side::new(&etcd.endpoint), Side::new(&agent.endpoint)];
    let told = sides.map(|side| {
        let mut told = Vec::new();
        for text in [r#"{"key":b(w),"value":b(1)}"#, r#"{"key":b(w),"value":b(2)}"#] {
            side.post("/v3/kv/put", text);
        }
        side.post("/v3/kv/deleterange", r#"{"key":b(w)}"#);
        let lines =
            side.lines("/v3/watch", r#"{"create_request":{"key":b(w),"start_revision":"@1","prev_kv":true}}"#, 2);
        assert_eq!(lines[0]["result"]["created"], true);
        told.push(lines[1]["result"]["events"].clone());
        // One that is there before: told of what comes.
        let endpoint = side.endpoint.to_owned();
        let request = side.request(r#"{"create_request":{"key":b(later),"watch_id":"7"}}"#);
        let watch = std::thread::spawn(move || post_lines(&endpoint, "/v3/watch", &request, 2));
        // It says nothing before it is there: written until it has been told.
        while !watch.is_finished() {
            side.post("/v3/kv/put", r#"{"key":b(later),"value":b(x)}"#);
        }
        let lines = watch.join().expect("no panic");
        assert_eq!(lines[0]["result"]["watch_id"], "7");
        told.push(lines[1]["result"]["events"][0]["kv"]["value"].clone());
        side.post("/v3/kv/compaction", r#"{"revision":"@3"}"#);
        let mut past = side.lines("/v3/watch", r#"{"create_request":{"key":b(w),"start_revision":"@1"}}"#, 2);
        // Newer ones, as Regrow, give the reason in words too.
        past[1]["result"].as_object_mut().expect("an object").remove("cancel_reason");
        past[1]["result"]["header"] = true.into();
        told.push(past[1].clone());
        side.post("/v3/lease/grant", r#"{"ID":"77","TTL":"600"}"#);
        let mut alive = side.lines("/v3/lease/keepalive", r#"{"ID":"77"} {"ID":"78"}"#, 2);
        alive.iter_mut().for_each(|line| line["result"]["header"] = true.into());
        told.extend(alive);
        told
    });
    assert_eq!(told[0], told[1]);
    assert_eq!(told[1][0].as_array().map(Vec::len), Some(3), "{told:?}");
}

/// Members, status, checksums, defragmentation, alarms, and the pieces of a snapshot; and a sentence, with its status, for
/// what is not offered.
#[test]
fn upkeep_and_what_is_not_offered() {
    let Some(agent) = Agent::start() else { return };
    let at = &agent.endpoint[..];
    let ok = |path: &str, text: &str| {
        let answer = post(at, path, text);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    };
    let members = ok("/v3/cluster/member/list", "{}");
    assert_eq!(members["members"][0]["clientURLs"], json!([format!("http://{at}")]));
    let status = ok("/v3/maintenance/status", "");
    assert_eq!((&status["leader"], &status["raftTerm"]), (&members["members"][0]["ID"], &json!("1")));
    assert!(number(&status["dbSize"]) > 0 && status["version"].as_str().is_some(), "{status}");
    let (hash, again) = (ok("/v3/maintenance/hash", "{}"), ok("/v3/maintenance/hashkv", "{}"));
    assert!(hash["hash"].as_u64().is_some() && hash["hash"] == again["hash"], "{hash} {again}");
    ok("/v3/maintenance/defragment", "{}");
    assert_eq!(ok("/v3/maintenance/alarm", r#"{"action":"GET"}"#)["alarms"], Value::Null);
    let parts = post(at, "/v3/maintenance/snapshot", "{}");
    let parts: Vec<Value> = parts.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let blob = |part: &Value| STANDARD.decode(part["result"]["blob"].as_str().unwrap_or("")).expect("base64");
    let file: Vec<u8> = parts.iter().flat_map(blob).collect();
    // The magic number of bbolt's first page.
    assert_eq!(file.get(16..20), Some(&[0xed, 0xda, 0x0c, 0xed][..]), "{} parts", parts.len());
    for (path, text) in [
        ("auth/enable", "users"),
        ("auth/user/list", "users"),
        ("cluster/member/add", "members cannot be added"),
        ("maintenance/downgrade", "downgrade"),
    ] {
        let answer = post(at, &format!("/v3/{path}"), "{}");
        let body = answer.json();
        let said = body["message"].as_str().unwrap_or("");
        assert_eq!(
            (answer.status, &body["code"], &body["error"]),
            (501, &json!(12), &body["message"]),
            "{path}: {body}"
        );
        assert!(said.starts_with("regrow: ") && said.contains(text), "{path}: {said}");
    }
    let lease = ok("/v3/lease/grant", r#"{"ID":"5","TTL":"600"}"#);
    assert_eq!(lease["ID"], "5");
    let taken = post(at, "/v3/lease/grant", r#"{"ID":"5","TTL":"600"}"#);
    assert_eq!((taken.status, &taken.json()["code"]), (400, &json!(9)), "as etcd 3.5: 3.4 says 412");
    assert_eq!(ask(at, "GET", "/v3/kv/range", "").status, 405);
    let page = crate::support::http::open(at, "/v3/kv/range", "{}", "origin: http://page.example\r\n");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(page), &mut line).expect("an answer");
    assert!(line.contains(" 403 "), "{line}");
}

/// A value of 2 MiB is refused by each interface with its own words, one of 1 MiB is taken.
#[test]
fn two_mebibytes_are_too_large() {
    let Some(agent) = Agent::start() else { return };
    let at = &agent.endpoint[..];
    let put = |bytes: usize| {
        let value = STANDARD.encode(vec![0xfe; bytes]);
        post(at, "/v3/kv/put", &format!(r#"{{"key":"YQ==","value":"{value}"}}"#))
    };
    assert_eq!(put(1 << 20).status, 200);
    let refused = put(2 << 20);
    assert_eq!((refused.status, &refused.json()["message"]), (400, &json!("etcdserver: request is too large")));
    // More than is read at all.
    let refused = put(8 << 20);
    assert_eq!((refused.status, &refused.json()["message"]), (400, &json!("etcdserver: request is too large")));
    let form = |bytes: usize| ask(at, "PUT", "/v2/keys/large", &format!("value={}", "v".repeat(bytes)));
    assert_eq!(form(1 << 20).status, 201);
    let refused = form(2 << 20);
    assert!(refused.status >= 400 && refused.body.contains("too large"), "{} {}", refused.status, refused.body);
    assert_eq!(post(at, "/v3/kv/range", r#"{"key":"YQ=="}"#).json()["count"], "1");
}
