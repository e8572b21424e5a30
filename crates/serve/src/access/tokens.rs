//! Tokens and the audit log over HTTP: what the command line speaks.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/tokens` | [`TokenLine`]s by name |
//! | `POST /api/tokens` of a [`Wish`] | [`Made`]: the only time that the token is told |
//! | `GET /api/tokens/{id}` | a [`TokenLine`] |
//! | `POST /api/tokens/{id}/revoke` | the [`TokenLine`] as it is then |
//! | `GET /api/audit?last=&follow=&who=` | a line of the log a line |

use super::Visit;
use crate::api::{lines, read, usage};
use crate::wire::{AuditQuery, Made, Refusal, TokenLine, Wish};
use crate::{AgentError, BoxFuture, Lines};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use regrow_model::Name;
use std::sync::Arc;

type Shared = Arc<dyn Registry>;
type Answered<T> = Result<Json<T>, Refusal>;

/// Where tokens are kept, as doors see it.
pub trait Registry: Send + Sync + 'static {
    /// Every token that there is, and was.
    fn list(&self) -> BoxFuture<'_, Result<Vec<TokenLine>, AgentError>>;
    /// Makes one. `by`: who asks for it.
    fn create(&self, wish: Wish, by: String) -> BoxFuture<'_, Result<Made, AgentError>>;
    /// Takes one back, for good. `by`: who asks for it.
    fn revoke(&self, id: Name, by: String) -> BoxFuture<'_, Result<TokenLine, AgentError>>;
    /// The log of who did what.
    fn audit(&self, query: AuditQuery) -> BoxFuture<'_, Result<Lines, AgentError>>;
}

/// The routes, over a registry.
pub fn router(registry: Shared) -> Router {
    Router::new()
        .route("/api/tokens", get(list).post(create))
        .route("/api/tokens/{id}", get(show))
        .route("/api/tokens/{id}/revoke", post(revoke))
        .route("/api/audit", get(audit))
        .with_state(registry)
}

async fn list(State(registry): State<Shared>) -> Answered<Vec<TokenLine>> {
    Ok(Json(registry.list().await?))
}

async fn create(State(registry): State<Shared>, Extension(visit): Extension<Visit>, body: Bytes) -> Answered<Made> {
    let wish: Wish = read(body)?;
    Ok(Json(registry.create(wish, visit.caller().name().to_owned()).await?))
}

async fn show(State(registry): State<Shared>, Path(id): Path<String>) -> Answered<TokenLine> {
    let found = registry.list().await?.into_iter().find(|token| token.id.as_str() == id);
    let missing = || AgentError::NotFound(format!("there is no token `{id}`: `regrow token ls` lists what is there"));
    Ok(Json(found.ok_or_else(missing)?))
}

async fn revoke(
    State(registry): State<Shared>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Answered<TokenLine> {
    let id = Name::new(&id).map_err(|error| usage(error.to_string()))?;
    Ok(Json(registry.revoke(id, visit.caller().name().to_owned()).await?))
}

async fn audit(State(registry): State<Shared>, Query(query): Query<AuditQuery>) -> Result<Response, Refusal> {
    Ok(lines(registry.audit(query).await?))
}
