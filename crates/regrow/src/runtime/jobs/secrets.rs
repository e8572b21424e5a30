//! Secrets, read where the spec says they are.

use regrow_model::spec::Secret;
use regrow_store::{RangeRequest, Store};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Most bytes of a secret: a key, a certificate's chain, not an archive.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Reads secrets on this machine and from the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Secrets {
    store: Option<Arc<dyn Store>>,
}

impl Secrets {
    /// `store`: where the keys are; `None` on a worker that knows no store.
    pub(crate) fn new(store: Option<Arc<dyn Store>>) -> Secrets {
        Secrets { store }
    }

    /// All of a run, by name. `root`: where relative paths start. Errors: a sentence that names the secret and where it
    /// is, and not its value.
    pub(super) async fn all(
        &self,
        secrets: &BTreeMap<String, Secret>,
        root: &str,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut values = BTreeMap::new();
        for (name, secret) in secrets {
            values.insert(name.clone(), self.one(name, secret, root).await?);
        }
        Ok(values)
    }

    /// One of them. `name`: what it is called in the message.
    pub(super) async fn one(&self, name: &str, secret: &Secret, root: &str) -> Result<String, String> {
        let missing = |place: String, why: String| format!("the secret `{name}` is missing: {place} {why}");
        let bytes = match (&secret.file, &secret.env, &secret.key) {
            (Some(file), ..) => {
                let path = Path::new(root).join(file);
                let reading = tokio::task::spawn_blocking(move || read(&path));
                let mut bytes = reading
                    .await
                    .map_err(|error| std::io::Error::other(error.to_string()))
                    .flatten()
                    .map_err(|error| missing(format!("the file {file}"), format!("cannot be read: {error}")))?;
                if bytes.ends_with(b"\n") {
                    bytes.pop();
                    if bytes.ends_with(b"\r") {
                        bytes.pop();
                    }
                }
                bytes
            }
            (_, Some(env), _) => match std::env::var(env) {
                Ok(value) => value.into_bytes(),
                Err(std::env::VarError::NotPresent) => {
                    return Err(missing(format!("the variable {env}"), "is not set for this worker".to_owned()));
                }
                // The error itself would show the value.
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(missing(format!("the variable {env}"), "is not UTF-8".to_owned()));
                }
            },
            (.., Some(key)) => {
                let Some(store) = &self.store else {
                    return Err(missing(
                        format!("the key {key}"),
                        "is in a store, and this worker has none".to_owned(),
                    ));
                };
                let found = store.range(RangeRequest::key(key.clone())).await;
                let found =
                    found.map_err(|error| missing(format!("the key {key}"), format!("cannot be read: {error}")))?;
                match found.kvs.into_iter().next() {
                    Some(kv) => kv.value.to_vec(),
                    None => return Err(missing(format!("the key {key}"), "is not in the store".to_owned())),
                }
            }
            (None, None, None) => return Err(missing("its place".to_owned(), "is not said".to_owned())),
        };
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(format!("the secret `{name}` has more than {} KiB", SECRET_BYTES_MAX >> 10));
        }
        String::from_utf8(bytes).map_err(|_| format!("the secret `{name}` is not UTF-8"))
    }
}

/// A regular file, as far as a secret may go and a byte more.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX);
    // One more for each byte of a line's end, and one that tells that there is more.
    std::fs::File::open(path)?.take(most.saturating_add(3)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: Option<&str>, env: Option<&str>, key: Option<&str>) -> Secret {
        Secret { file: file.map(Into::into), env: env.map(Into::into), key: key.map(Into::into) }
    }

    /// Shows that a secret in a file loses its line's end, and that what is missing is named with its place.
    #[tokio::test]
    async fn secrets_are_read_or_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_str().expect("UTF-8");
        std::fs::write(folder.path().join("token"), "hunter2\r\n").expect("written");
        std::fs::write(folder.path().join("large"), vec![b'x'; SECRET_BYTES_MAX + 1]).expect("written");
        let secrets = Secrets::new(None);
        let read = async |secret: Secret| secrets.one("token", &secret, root).await;
        assert_eq!(read(at(Some("token"), None, None)).await.as_deref(), Ok("hunter2"));
        for (secret, place) in [
            (at(Some("other"), None, None), "the file other"),
            (at(Some("."), None, None), "not a file"),
            (at(None, Some("REGROW_NO_SUCH_VARIABLE"), None), "REGROW_NO_SUCH_VARIABLE is not set"),
            (at(None, None, Some("/secret/x")), "/secret/x is in a store"),
            (at(Some("large"), None, None), "more than 64 KiB"),
        ] {
            let message = read(secret).await.expect_err(place);
            assert!(message.contains("`token`") && message.contains(place), "{message}");
        }
    }
}
