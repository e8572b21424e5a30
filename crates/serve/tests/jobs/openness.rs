//! Who may come: pages of other sites, tokens, names of hosts.

use super::book::{Book, SECRET};
use super::mute::Mute;
use super::{request, router, send, sign};
use axum::body::Body;
use axum::http::Request;
use regrow_model::access::{Grant, Role, Seal, Token};
use regrow_model::{Kind, Time};
use regrow_serve::access::{Audit, Guard, Origin, Peer};
use regrow_serve::{api, jobs};
use std::net::SocketAddr;

/// A page of another origin can start nothing: neither by a form, nor by what it has a browser load; `curl` and pages of our
/// own can.
#[tokio::test]
async fn pages_of_other_sites() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let cases: [(&[(&str, &str)], u16); 12] = [
        (&[form], 200),
        (&[form, ("origin", "http://127.0.0.1:8500")], 200),
        (&[form, ("origin", "http://127.0.0.1:8500"), ("sec-fetch-site", "same-origin")], 200),
        (&[form, ("sec-fetch-site", "none")], 200),
        (&[form, ("origin", "https://evil.example")], 403),
        (&[form, ("origin", "http://127.0.0.1:8501")], 403),
        (&[form, ("origin", "http://127.0.0.1:8500.evil.example")], 403),
        (&[form, ("origin", "null")], 403),
        (&[form, ("origin", "http://127.0.0.1:8500"), ("sec-fetch-site", "cross-site")], 403),
        (&[form, ("sec-fetch-site", "same-site")], 403),
        (&[form, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
        (&[form, ("host", "rebound.example:8500")], 400),
    ];
    for (headers, expect) in cases {
        let book = Book::new();
        let routes = router(&book);
        let post = request("POST /ansible/role/", headers, "host=web1&role=nginx");
        assert_eq!(send(&routes, post).await.status(), expect, "{headers:?}");
        let get = request("GET /ansible/adhoc/?host=web1&mod=ping", headers, "");
        assert_eq!(send(&routes, get).await.status(), expect, "{headers:?}");
        let head = request("HEAD /ansible/adhoc/?host=web1&mod=ping", headers, "");
        assert_eq!(send(&routes, head).await.status(), expect, "{headers:?}");
        assert_eq!(book.all().len(), if expect == 200 { 3 } else { 0 });
        let api = request("POST /api/runs", headers, r#"{"job": "nightly"}"#);
        assert_eq!(send(&routes, api).await.status(), 400, "our own takes JSON only: {headers:?}");
    }
}

fn secret(name: &str) -> String {
    format!("rgw_{name:A<43}")
}

fn with_token(line: &str, headers: &[(&str, &str)], body: &'static str, caller: &str) -> Request<Body> {
    let mut request = request(line, headers, body);
    let remote = SocketAddr::from(([10, 0, 0, 9], 4242));
    request.extensions_mut().insert(Peer { origin: Origin::Tcp { remote, tls: true }, certificate: None });
    if !caller.is_empty() {
        let value = format!("Bearer {}", secret(caller)).parse().expect("ASCII");
        request.headers_mut().insert("authorization", value);
    }
    request
}

/// A request with its headers and body, and the status for each caller.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'static str, [u16; 5]);

/// What takes which role, where tokens are asked for; a webhook takes none but its signature.
#[tokio::test]
async fn roles() {
    let book = Book::new();
    let guard = Guard::closed(4_000_000, Audit::off());
    let grants = [
        ("reader", Grant::whole(Role::Reader)),
        ("operator", Grant::whole(Role::Operator)),
        ("jobs", Grant { role: Role::Operator, prefixes: Vec::new(), kinds: vec![Kind::Job] }),
        ("groups", Grant { role: Role::Operator, prefixes: Vec::new(), kinds: vec![Kind::Group] }),
    ];
    for (name, grant) in grants {
        let token = Token {
            seal: Seal::of(&secret(name)),
            grant,
            note: String::new(),
            created: Time(0),
            created_by: "the test".to_owned(),
            expires: None,
            revoked: None,
        };
        guard.know(name, Some(token), 1);
    }
    let routes = api::router(std::sync::Arc::new(Mute), jobs::http::router(book.clone()), guard);
    let callers = ["", "reader", "operator", "jobs", "groups"];
    let json = ("content-type", "application/json");
    let signature = sign(SECRET, "{}");
    let signed: &[(&str, &str)] = &[json, ("x-hub-signature-256", &signature)];
    let cases: [Case<'_>; 12] = [
        ("GET /api/jobs", &[], "", [401, 200, 200, 200, 403]),
        ("GET /api/runs", &[], "", [401, 200, 200, 200, 403]),
        ("GET /api/workers", &[], "", [401, 200, 200, 200, 403]),
        ("GET /api/schedules", &[], "", [401, 200, 200, 403, 403]),
        ("GET /ansible/results/0123456789abcdef", &[], "", [401, 404, 404, 404, 403]),
        ("POST /api/runs", &[json], r#"{"job": "nightly"}"#, [401, 403, 200, 200, 403]),
        ("POST /api/runs/0123456789abcdef/cancel", &[json], "", [401, 403, 404, 404, 403]),
        ("POST /ansible/role/", &[json], r#"{"host": "a", "role": "b"}"#, [401, 403, 200, 200, 403]),
        ("GET /ansible/adhoc/?host=a&mod=ping", &[], "", [401, 403, 200, 200, 403]),
        ("HEAD /ansible/adhoc/?host=a&mod=ping", &[], "", [401, 403, 200, 200, 403]),
        ("POST /api/hooks/hooked", signed, "{}", [200; 5]),
        ("POST /api/hooks/hooked", &[json], "{}", [403; 5]),
    ];
    for (line, headers, body, expect) in cases {
        let mut found = Vec::new();
        for caller in callers {
            found.push(send(&routes, with_token(line, headers, body, caller)).await.status().as_u16());
        }
        assert_eq!(found, expect, "{line}");
    }
    let asked: Vec<String> = book.all().iter().map(|run| run.order.by.clone()).collect();
    assert!(asked.iter().all(|by| matches!(by.as_str(), "token/operator" | "token/jobs" | "webhook")), "{asked:?}");
}
