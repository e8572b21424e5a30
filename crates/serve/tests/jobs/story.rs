//! The interface of Ansible job servers, as their clients use it.

use super::book::Book;
use super::{request, router, send, text};
use axum::Router;
use regrow_model::RunId;
use regrow_model::run::{ModuleArgs, Play, Recap, RunResult, State, Task};
use serde_json::{Value, json};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn form(router: &Router, line: &str, body: &str) -> (u16, String) {
    text(send(router, request(line, &[FORM], body.to_owned())).await).await
}

fn ansible(book: &Book, id: &str) -> regrow_model::run::AnsibleTask {
    let id: RunId = id.parse().expect("an id and nothing else");
    match &book.one(&id).order.task {
        Task::Ansible(task) => (**task).clone(),
        other => panic!("{other:?}"),
    }
}

/// Every request of the story, with and without its last slash, as a form and as JSON.
#[tokio::test]
async fn every_request_starts_its_job() {
    let book = Book::new();
    let routes = router(&book);
    for slash in ["", "/"] {
        let (status, id) =
            form(&routes, &format!("POST /ansible/role{slash}"), "host=web1&role=nginx,php&env=production").await;
        assert_eq!(status, 200, "{id}");
        let task = ansible(&book, &id);
        assert_eq!((task.play, task.limit), (Play::Roles(vec!["nginx".into(), "php".into()]), vec!["web1".to_owned()]));
        let (_, id) = form(&routes, &format!("POST /ansible/update-code{slash}"), "tags=api&env=staging").await;
        assert_eq!(ansible(&book, &id).tags, ["api"]);
        let line = format!("GET /ansible/adhoc{slash}?host=web1&mod=shell&args=uptime%20%7C+cat");
        let (status, id) = text(send(&routes, request(&line, &[], "")).await).await;
        assert_eq!(status, 200, "{id}");
        let module = Play::Module { name: "shell".into(), args: ModuleArgs::Command("uptime | cat".into()) };
        assert_eq!(ansible(&book, &id).play, module);
        let (_, id) = form(&routes, &format!("POST /ansible/set_eip{slash}"), "instance_id=i-0abc&role=web").await;
        let run = book.one(&id.parse().expect("an id"));
        assert_eq!(run.order.answers["env"], json!("staging"), "what is not sent is the job's default");
    }
    let json = json!({"host": "web1", "role": ["nginx", "php"]}).to_string();
    let sent = request("POST /ansible/role/", &[("content-type", "application/json")], json);
    let (_, id) = text(send(&routes, sent).await).await;
    assert_eq!(ansible(&book, &id).play, Play::Roles(vec!["nginx".into(), "php".into()]));
}

/// Each state's word, and the recap of a run that has one, also of one that failed.
#[tokio::test]
async fn results_in_each_state() {
    let book = Book::new();
    let routes = router(&book);
    let (_, id) = form(&routes, "POST /ansible/role/", "host=web1&role=nginx").await;
    let run: RunId = id.parse().expect("an id");
    let recap = Recap { ok: 3, changed: 1, unreachable: 0, failures: 1, skipped: 2 };
    let with = || Some(RunResult { code: Some(2), recap: [("web1".to_owned(), recap)].into() });
    let told = r#"{"web1":{"ok":3,"changed":1,"unreachable":0,"failures":1,"skipped":2}}"#;
    for (state, result, expect) in [
        (State::Queued, None, "in-queue"),
        (State::Parked, None, "in-queue"),
        (State::Running, None, "waiting"),
        (State::Queued, with(), "in-queue"),
        (State::Failed, None, "failed"),
        (State::Failed, Some(RunResult::default()), "failed"),
        (State::Failed, with(), told),
        (State::Cancelled, None, "failed"),
        (State::TimedOut, None, "failed"),
        (State::Lost, None, "failed"),
        (State::Expired, None, "failed"),
        (State::Skipped, None, "failed"),
        (State::Succeeded, with(), told),
        (State::Succeeded, None, "{}"),
    ] {
        book.moves(&run, state, result);
        for slash in ["", "/"] {
            let response = send(&routes, request(&format!("GET /ansible/results/{id}{slash}"), &[], "")).await;
            let kind = response.headers()["content-type"].to_str().expect("ASCII").to_owned();
            assert_eq!(kind.starts_with("text/plain"), !expect.starts_with('{'), "{kind}");
            assert_eq!(text(response).await, (200, expect.to_owned()), "{state}");
        }
    }
    for unknown in ["0123456789abcdef", "x", "..%2fx"] {
        let sent = request(&format!("GET /ansible/results/{unknown}"), &[], "");
        assert_eq!(send(&routes, sent).await.status(), 404, "{unknown}");
    }
}

/// What is refused, and what it says.
#[tokio::test]
async fn refusals() {
    let book = Book::new();
    let routes = router(&book);
    let large = format!("host=web1&role={}", "a".repeat((64 << 10) + 1));
    for (line, body, status, part) in [
        ("POST /ansible/role/", "host=web1&roles=x", 400, "there is no field `roles`: there are host, role, env"),
        ("POST /ansible/role/", "host=web1&host=web2&role=x", 400, "comes twice"),
        ("POST /ansible/role/", "role=x", 400, "`host` is missing"),
        ("POST /ansible/role/", "host=web1&role=x&env=moon", 400, "staging, production"),
        ("POST /ansible/role/", large.as_str(), 400, "has 65537 bytes; it may have 65536"),
        ("GET /ansible/adhoc/?host=web1&mod=ping&become=1", "", 400, "there are host, mod, args"),
        ("GET /ansible/adhoc/", "", 400, "missing"),
        ("GET /ansible/role/", "", 405, ""),
        ("GET /ansible/unheard-of", "", 404, "there is no /ansible/unheard-of"),
    ] {
        let (found, answer) = form(&routes, line, body).await;
        assert!(found == status && answer.contains(part), "{line} {body:.60}: {found} {answer}");
    }
    let (status, _) = form(&routes, "POST /ansible/role/", &"a=".repeat(1 << 20)).await;
    assert_eq!(status, 413);
    for (kind, body, part) in [
        ("multipart/form-data; boundary=x", "--x--", "as curl -d does"),
        ("text/plain", "host=web1&role=x", "as curl -d does"),
        ("application/json", r#"{"host": {"a": 1}, "role": "x"}"#, "`host` is not text"),
        ("application/json", r#"{"host": "web1", "role": [1]}"#, "`role` is not text"),
        ("application/json", r#"["host"]"#, "does not fit"),
    ] {
        let (status, answer) =
            text(send(&routes, request("POST /ansible/role/", &[("content-type", kind)], body)).await).await;
        assert!(status == 400 && answer.contains(part), "{kind} {body}: {answer}");
    }
    assert!(book.all().is_empty());
}

/// Without the job in the spec the answer says which to add, and where it is shown.
#[tokio::test]
async fn jobs_that_are_missing() {
    let book = Book::new();
    let routes = router(&book);
    for (line, job) in [
        ("POST /ansible/role/", "ansible-role"),
        ("POST /ansible/update-code/", "ansible-update-code"),
        ("GET /ansible/adhoc/", "ansible-adhoc"),
        ("POST /ansible/set_eip/", "ansible-set-eip"),
    ] {
        book.without(job);
        let (status, answer) = form(&routes, line, "").await;
        let error: Value = serde_json::from_str(&answer).expect("JSON");
        let error = error["error"].as_str().expect("a sentence").to_owned();
        assert!(
            status == 404 && error.contains(&format!("`{job}`")) && error.contains("docs/guide/jobs.md"),
            "{error}"
        );
    }
}
