//! The endpoints of a store elsewhere, and which one is in use.

use std::{
    error::Error as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tonic::{
    Code, ConnectError, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{
    RemoteOptions,
    socket::Socket,
    tls::{Connector, Tls},
};
use crate::{
    Error, Result,
    proto::{self, Asked, etcdserverpb::ResponseHeader},
};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take. etcd gives up by itself after 7 s, but hashes and compactions take what they take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a connection in use is asked whether it is still there. etcd takes offence below 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long it has to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How often all endpoints are tried before a request is given up. With the pauses this is about 3 s beyond what the
/// endpoints take to refuse: an election of etcd takes 1 s to 2 s.
const ROUNDS_MAX: usize = 6;

/// The pause after the first round; it doubles with each.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing, or the same thing again.
    Read,
    /// It may have been done.
    Write,
}

/// The way to an endpoint.
pub(super) type Way = InterceptedService<Channel, Bearer>;

/// Puts the token, if there is one, on each request.
#[derive(Clone, Debug)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// The endpoints of one store.
#[derive(Debug)]
pub(super) struct Endpoints {
    all: Vec<(String, Way)>,
    at: AtomicUsize,
    cluster: OnceLock<u64>,
    options: RemoteOptions,
}

impl Endpoints {
    pub(super) fn new<T: AsRef<str>>(urls: impl IntoIterator<Item = T>, options: &RemoteOptions) -> Result<Self> {
        let all = urls.into_iter().map(|url| endpoint(url.as_ref(), options)).collect::<Result<Vec<_>>>()?;
        if all.is_empty() {
            return Err(Error::Endpoint { url: String::new(), why: "no endpoint is given".to_owned() });
        }
        Ok(Self { all, at: AtomicUsize::new(0), cluster: OnceLock::new(), options: options.clone() })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The cluster of the first answer; 0 before.
    pub(super) fn cluster(&self) -> u64 {
        self.cluster.get().copied().unwrap_or(0)
    }

    /// How they are spoken to.
    pub(super) fn options(&self) -> &RemoteOptions {
        &self.options
    }

    /// All of them, each with the way to it.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, Way)> {
        self.all.clone().into_iter()
    }

    /// The endpoint in use: its number, and the way to it.
    pub(super) fn current(&self) -> (usize, Way) {
        let at = self.at.load(Ordering::Relaxed) % self.all.len();
        (at, self.all[at].1.clone())
    }

    /// Goes over to the next endpoint, unless somebody did already.
    pub(super) fn leave(&self, at: usize, why: &str) {
        let next = (at + 1) % self.all.len();
        if self.at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() && next != at {
            tracing::info!(from = self.all[at].0, to = self.all[next].0, why, "the store is asked at another endpoint");
        }
    }

    /// Sends a request, to other endpoints too where that is safe, and waits for the answer.
    pub(super) async fn call<T, F>(&self, kind: Kind, asked: Asked, call: impl Fn(Way) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let mut tries = 0;
        loop {
            let (at, channel) = self.current();
            let status = match timeout(ANSWER_TIMEOUT, call(channel)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer in {} s", ANSWER_TIMEOUT.as_secs())),
            };
            tries += 1;
            let error = match proto::error(&status, asked) {
                Error::Unavailable { reason } => {
                    Error::Unavailable { reason: format!("{}: {reason}{}", self.all[at].0, root(&status)) }
                }
                error => return Err(error),
            };
            if !may_be_elsewhere(&status) {
                return Err(error);
            }
            self.leave(at, status.message());
            if tries >= ROUNDS_MAX * self.all.len() || (kind == Kind::Write && !never_sent(&status)) {
                return Err(error);
            }
            if tries % self.all.len() == 0 {
                sleep(PAUSE * (1 << (tries / self.all.len() - 1).min(ROUNDS_MAX))).await;
            }
        }
    }

    /// Refuses answers of another cluster than the first that answered.
    pub(super) fn same_cluster(&self, header: Option<&ResponseHeader>) -> Result<()> {
        let found = header.map_or(0, |header| header.cluster_id);
        let first = *self.cluster.get_or_init(|| found);
        if found == first {
            return Ok(());
        }
        let reason = format!("an endpoint belongs to cluster {found:x}, the others to {first:x}");
        Err(Error::Unavailable { reason })
    }
}

fn endpoint(url: &str, options: &RemoteOptions) -> Result<(String, Way)> {
    let refuse = |why: String| Error::Endpoint { url: url.to_owned(), why };
    if let Some(path) = url.strip_prefix("unix:") {
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint.connect_with_connector_lazy(Socket(path.into()));
        return Ok((url.to_owned(), InterceptedService::new(channel, Bearer(None))));
    }
    let secure = url.starts_with("https://");
    if !secure && !url.starts_with("http://") {
        return Err(refuse("it is not http://HOST:PORT or https://HOST:PORT".to_owned()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| refuse(error.to_string()))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let channel = if secure {
        let tls = Arc::new(Tls::clone(&options.tls));
        // Read once now, so that what is wrong with the files is told before anything is asked.
        tls.config(&[]).map_err(|error| refuse(error.to_string()))?;
        endpoint.connect_with_connector_lazy(Connector(tls))
    } else {
        endpoint.connect_lazy()
    };
    let token = match &options.token {
        None => None,
        // Nobody between here and there may read it.
        Some(_) if !secure => {
            return Err(refuse("a token is not sent without TLS: use https:// and --tls-ca".to_owned()));
        }
        Some(token) => {
            let value: MetadataValue<Ascii> = format!("Bearer {}", token.expose())
                .parse()
                .map_err(|_| refuse("the token has characters that no token has".to_owned()))?;
            Some(value)
        }
    };
    let token = token.map(|mut token| {
        token.set_sensitive(true);
        token
    });
    Ok((url.to_owned(), InterceptedService::new(channel, Bearer(token))))
}

/// What lies below a failed connection: the transport's own text does not say.
fn root(status: &Status) -> String {
    let mut source = status.source();
    while let Some(error) = source {
        match error.source() {
            Some(below) => source = Some(below),
            None => return format!(": {error}"),
        }
    }
    String::new()
}

/// Whether another endpoint may answer better: the connection failed, or the member has no leader.
pub(super) fn may_be_elsewhere(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
    )
}

/// Whether the request cannot have arrived: there was no connection.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not an endpoint is refused at once, naming it.
    #[tokio::test]
    async fn endpoints_are_checked() {
        for (urls, expect) in [
            (&["127.0.0.1:2379"][..], "`127.0.0.1:2379`"),
            (&["http://127.0.0.1:2379", "ftp://127.0.0.1:2379"], "`ftp://127.0.0.1:2379`"),
            (&["https://127.0.0.1:2379"], "--tls-ca"),
            (&["http://"], "`http://`"),
            (&[], "no endpoint"),
        ] {
            let error = Endpoints::new(urls, &RemoteOptions::default()).expect_err("refused").to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    /// A token goes over TLS or not at all, and is not shown.
    #[tokio::test]
    async fn tokens_are_not_sent_in_the_open() {
        let token = Some(super::super::Secret::new(" rgw_known \n"));
        let options = RemoteOptions { token, ..RemoteOptions::default() };
        let refused = Endpoints::new(["http://127.0.0.1:2379"], &options).expect_err("refused").to_string();
        assert!(refused.contains("without TLS") && !refused.contains("known"), "{refused}");
        assert!(!format!("{options:?}").contains("known"));
    }

    /// A write to an endpoint where nobody listens goes to the next; what was sent does not.
    #[tokio::test]
    async fn only_what_was_never_sent_is_sent_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let endpoint = Endpoint::from_shared(url).expect("an endpoint").connect_lazy();
        let mut client = crate::proto::etcdserverpb::kv_client::KvClient::new(endpoint);
        let status = client.put(crate::proto::etcdserverpb::PutRequest::default()).await.expect_err("nobody is there");
        assert!(never_sent(&status) && may_be_elsewhere(&status), "{status:?}");
        assert!(!never_sent(&Status::unavailable("etcdserver: request timed out")));
    }
}
