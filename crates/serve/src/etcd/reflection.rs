//! Server reflection: the interface as its descriptors tell it, for clients such as `grpcurl` that learn it from the
//! server. Versions `v1` and `v1alpha` are the same. It tells nothing of what is in the store.

use std::sync::LazyLock;

use axum::Router;
use regrow_store::proto::DESCRIPTORS;
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

/// The services of reflection.
pub(super) fn router() -> Router {
    static SERVICES: LazyLock<Router> = LazyLock::new(|| services().unwrap_or_default());
    SERVICES.clone()
}

/// Errors: the descriptors are none; they are part of the binary, and tests read them.
fn services() -> Result<Router, Error> {
    let builder = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    Ok(Routes::new(builder().build_v1()?).add_service(builder().build_v1alpha()?).into_axum_router().reset_fallback())
}
