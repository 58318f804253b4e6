//! HTTP out of the agent: the API over a unix socket, health and metrics over TCP.
//!
//! A [`Site`] answers requests and knows no socket; [`serve`] runs one on a listener until shutdown.

mod api;
mod health;
mod metrics;
mod reply;
mod tcp;
mod unix;

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time,
};

pub use self::{
    api::ApiSite,
    health::HealthSite,
    metrics::MetricsSite,
    tcp::{Tcp, serve_tcp},
    unix::{ApiSocket, SocketError},
};

/// Requests that one listener works on at once; who comes later waits in the listener's queue.
const CONNECTIONS: usize = 128;

/// A client must have sent its request's head after so long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers under way at shutdown get so long to leave.
const GRACE: Duration = Duration::from_secs(2);

/// What answers requests. It may read maps: it is called where blocking is fine.
pub trait Site: Send + Sync + 'static {
    /// Answers one request; bodies are ignored.
    fn answer(&self, request: &Request<()>) -> Response<Full<Bytes>>;
}

/// Tells servers to stop: the value becomes true, or the sender goes.
pub type Shutdown = watch::Receiver<bool>;

/// Where connections come from.
pub(crate) trait Listener: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Waits for one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Serves `site` until shutdown; answers under way are finished.
pub(crate) async fn serve(listener: impl Listener, site: Arc<dyn Site>, mut shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    let mut starved = false;
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut shutdown) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match accepted {
            Ok(stream) => {
                starved = false;
                connections.spawn(converse(stream, Arc::clone(&site), shutdown.clone()));
            }
            // Out of file descriptors, as a rule: accept goes on failing until one is free.
            Err(error) => {
                if !starved {
                    tracing::warn!(%error, "no connection can be accepted");
                }
                starved = true;
                time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    // What has not left by then is cut off with the set.
    let _ = time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Resolves when servers are to stop.
pub(crate) async fn stopped(shutdown: &mut Shutdown) {
    // An error means that the sender is gone, and with it who could say go on.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send, site: Arc<dyn Site>, mut shutdown: Shutdown) {
    let service = service_fn(|request: Request<_>| answer(Arc::clone(&site), request.map(drop)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // As Go writes them, and so kube-proxy.
        .title_case_headers(true)
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

async fn answer(site: Arc<dyn Site>, request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answered = tokio::task::spawn_blocking(move || site.answer(&request)).await;
    // A panic in an answer is a bug, and this client's alone.
    Ok(answered.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer broke off");
        reply::internal("the agent's answer broke off: its log says more")
    }))
}
