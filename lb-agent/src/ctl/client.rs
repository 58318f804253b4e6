//! Asking the agent.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{HOST, SERVER},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, runtime, time};

use crate::api::{
    self,
    error::{ApiError, ErrorBody},
    query::Query,
};

/// The agent of this node, behind its socket.
pub(super) struct Client<'a> {
    path: &'a Path,
}

/// An agent that says nothing for so long hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Says why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no agent at {}: there is no such socket; does lb-agent run on this node? (--socket and LB_AGENT_SOCKET name another)",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("no agent at {}: nobody listens on it; the agent has ended", path.display())]
    Refused { path: PathBuf },
    #[error("{}: permission denied; the socket is for root, and for its group", path.display())]
    Denied { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the agent at {} did not answer within {} s", path.display(), TIMEOUT.as_secs())]
    Silent { path: PathBuf },
    #[error("what answers at {} is no lb-agent: {why}", path.display())]
    NotAgent { path: PathBuf, why: String },
    #[error("the agent at {} hung up: {source}", path.display())]
    HungUp { path: PathBuf, source: hyper::Error },
    #[error("{agent} says what this lbctl ({}) does not understand: {source}", api::SERVER)]
    Unknown { agent: String, source: serde_json::Error },
    #[error(transparent)]
    No(ApiError),
    #[error("no runtime: {source}")]
    Runtime { source: io::Error },
}

/// The body of an answer, and who gave it.
struct Answer {
    agent: String,
    body: Bytes,
}

impl<'a> Client<'a> {
    pub(super) const fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// Asks for JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, query: &Query) -> Result<T, ClientError> {
        let Answer { agent, body } = self.fetch(query)?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Unknown { agent, source })
    }

    /// Asks for text.
    pub(super) fn text(&self, query: &Query) -> Result<String, ClientError> {
        let Answer { agent, body } = self.fetch(query)?;
        String::from_utf8(body.into()).map_err(|_| self.not_agent(format!("{agent} sends text that is not UTF-8")))
    }

    fn fetch(&self, query: &Query) -> Result<Answer, ClientError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ClientError::Runtime { source })?;
        runtime.block_on(async {
            let answered = time::timeout(TIMEOUT, self.exchange(query)).await;
            answered.unwrap_or_else(|_| Err(ClientError::Silent { path: self.path.to_owned() }))
        })
    }

    async fn exchange(&self, query: &Query) -> Result<Answer, ClientError> {
        let stream = UnixStream::connect(self.path).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Its error is the sender's too.
        tokio::spawn(connection);
        let request = Request::get(query.to_string())
            .header(HOST, "lb-agent")
            .body(Empty::<Bytes>::new())
            .expect("a query is a path of plain characters");
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let code = response.status();
        let agent = self.agent(&response)?;
        let body = response.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes();
        if code == StatusCode::OK {
            return Ok(Answer { agent, body });
        }
        let ErrorBody { error } =
            serde_json::from_slice(&body).map_err(|source| ClientError::Unknown { agent, source })?;
        Err(ClientError::No(error))
    }

    /// Checks that an agent answers, of whatever version.
    fn agent(&self, response: &Response<Incoming>) -> Result<String, ClientError> {
        let server = response.headers().get(SERVER).and_then(|value| value.to_str().ok());
        match server {
            Some(agent) if agent.starts_with("lb-agent/") => Ok(agent.to_owned()),
            Some(other) => Err(self.not_agent(format!("it calls itself {other:?}"))),
            None => Err(self.not_agent("it does not say what it is".to_owned())),
        }
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.to_owned();
        let kind = source.kind();
        if kind == io::ErrorKind::NotFound {
            ClientError::Missing { path }
        } else if kind == io::ErrorKind::ConnectionRefused {
            ClientError::Refused { path }
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::Denied { path }
        } else {
            ClientError::Connect { path, source }
        }
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        if source.is_parse() {
            return self.not_agent("it does not speak HTTP".to_owned());
        }
        ClientError::HungUp { path: self.path.to_owned(), source }
    }

    fn not_agent(&self, why: String) -> ClientError {
        ClientError::NotAgent { path: self.path.to_owned(), why }
    }
}
