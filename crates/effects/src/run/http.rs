//! A request. Redirects are not followed.

use super::limits::ANSWER_BYTES_MAX;
use super::process::Ended;
use super::{Came, Try, tls};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use regrow_control::features::job::policy::Halt;
use regrow_model::run::{HttpTask, Stream};
use regrow_model::spec::command::expand;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What a server answered.
struct Answer {
    status: StatusCode,
    /// Its beginning.
    body: Vec<u8>,
}

impl Try<'_> {
    pub(super) async fn http(&self, task: &HttpTask) -> Came {
        let mut halt = self.reins.halt.clone();
        let early = |ended| Came { ended, recap: BTreeMap::new(), status: None, why: None };
        let answer = tokio::select! {
            answer = self.ask(task) => answer,
            halt = halt.wait_for(|halt| *halt != Halt::No) => {
                return early(match halt.as_deref() {
                    Ok(Halt::Cancelled(by)) => Ended::Cancelled(by.clone()),
                    _ => Ended::Lost,
                });
            }
            () = tokio::time::sleep_until(self.reins.until) => return early(Ended::TimedOut),
        };
        let Answer { status, body } = match answer {
            Ok(answer) => answer,
            Err(why) => return Came::refused(format!("{}: {why}", task.url)),
        };
        for line in String::from_utf8_lossy(&body).lines() {
            self.sink.send(self.sink.text(Stream::Stdout, line)).await;
        }
        let ok = status.is_success();
        let ended = Ended::Exited { code: i32::from(!ok), said: String::new() };
        let why = (!ok).then(|| format!("{} answered {status}", task.url));
        Came { ended, recap: BTreeMap::new(), status: Some(i32::from(status.as_u16())), why }
    }

    async fn ask(&self, task: &HttpTask) -> Result<Answer, String> {
        let uri: Uri = task.url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let host = uri.host().ok_or("the URL has no host")?.trim_matches(['[', ']']);
        let request = self.request(task, &uri)?;
        let is_secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|source| crate::error::reason(&source))?;
        if !is_secure {
            return exchange(stream, request).await;
        }
        let ca = task.ca.as_ref().map(|ca| self.path(ca));
        exchange(tls::secure(stream, host, ca).await?, request).await
    }

    fn request(&self, task: &HttpTask, uri: &Uri) -> Result<Request<Full<Bytes>>, String> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let method =
            Method::from_bytes(task.method.as_bytes()).map_err(|_| format!("`{}` is no method", task.method))?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, authority);
        request = request.header(USER_AGENT, "regrow");
        for (name, value) in &task.headers {
            request = request.header(header_name(name)?, header_value(name, value)?);
        }
        for (name, value) in &task.secret_headers {
            let value = expand(value, |name| self.secrets.get(name).map(String::as_str));
            let mut value = header_value(name, &value.map_err(|error| error.to_string())?)?;
            value.set_sensitive(true);
            request = request.header(header_name(name)?, value);
        }
        let body = Full::new(Bytes::from(task.body.clone().unwrap_or_default()));
        request.body(body).map_err(|error| error.to_string())
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header"))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| format!("the value of {name} is no header's"))
}

/// One request and its answer. The connection ends with them, whatever it has left to say.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let (mut frames, mut body) = (answer.into_body(), Vec::new());
        while let Some(frame) = frames.frame().await {
            let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() else { continue };
            let room = ANSWER_BYTES_MAX.saturating_sub(body.len());
            body.extend_from_slice(&data[..data.len().min(room)]);
            if body.len() >= ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(Answer { status, body })
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        Err(error) = connection => Err(error.to_string()),
    }
}
