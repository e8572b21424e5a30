//! Files that runs have left.

use super::{ask, book::Book, book::NOW, id_of, request, router, send, text};
use axum::body::to_bytes;
use base64::Engine;
use regrow_model::run::{Line, RunEvent, State};
use serde_json::{Value, json};

pub(crate) fn piece(name: &str, size: u64, at: u64, data: &[u8]) -> Line {
    let data = base64::engine::general_purpose::STANDARD.encode(data);
    Line::event(NOW, RunEvent::Artefact { name: name.to_owned(), size, at, data })
}

/// Files are listed and given whole, from the last try that left them, whatever their name and bytes; one of which a piece is
/// missing is not told.
#[tokio::test]
async fn files_are_put_together_again() {
    let book = Book::new();
    let routes = router(&book);
    let id = id_of(&ask(&routes, "POST /api/runs", json!({"job": "nightly"})).await.1);
    book.moves(&id, State::Running, None);
    book.says(&id, &[piece("a & b/ü", 9, 0, b"old"), piece("a & b/ü", 9, 3, b" t"), piece("half", 8, 0, b"half")]);
    book.says(&id, &[piece("half", 8, 5, b"end"), piece("empty", 0, 0, b"")]);
    book.says(&id, &[piece("a & b/ü", 5, 0, &[0, 255, b'\n'])]);
    book.says(&id, &[piece("a & b/ü", 5, 3, b"zz"), piece("other", 1, 0, b"o")]);
    let (status, listed) = ask(&routes, &format!("GET /api/runs/{id}/artefacts"), Value::Null).await;
    let expected = json!([{"name": "a & b/ü", "size": 5}, {"name": "empty", "size": 0}, {"name": "other", "size": 1}]);
    assert_eq!((status, listed), (200, expected));
    let path = format!("GET /api/runs/{id}/artefact");
    let response = send(&routes, request(&format!("{path}?name=a%20%26%20b/%C3%BC"), &[], "")).await;
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(response.headers()["content-disposition"], "attachment");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(to_bytes(response.into_body(), 1 << 20).await.expect("whole").as_ref(), [0, 255, b'\n', b'z', b'z']);
    assert_eq!(text(send(&routes, request(&format!("{path}?name=empty"), &[], "")).await).await, (200, String::new()));
    for (query, status) in [("?name=half", 404), ("?name=..%2Fx", 404), ("", 400), ("?name=x&y=z", 400)] {
        assert_eq!(ask(&routes, &format!("{path}{query}"), Value::Null).await.0, status, "{query}");
    }
}
