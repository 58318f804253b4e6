//! Listening on TCP: a port that is taken is waited for.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

use super::{Listener, Shutdown, Site, serve, stopped};
use crate::problem::{Problem, Problems};

/// How long to wait before a port is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// A server on TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Where.
    pub address: SocketAddr,
    /// What it serves, as a person calls it.
    pub what: &'static str,
    /// The flag that moves or ends it.
    pub flag: &'static str,
}

/// Serves `site` until shutdown. While the port cannot be had, that is a problem, and tried again: at a change from
/// kube-proxy the old proxy holds these ports until it ends.
pub async fn serve_tcp(tcp: Tcp, site: Arc<dyn Site>, problems: Arc<Mutex<Problems>>, mut shutdown: Shutdown) {
    loop {
        match TcpListener::bind(tcp.address).await {
            Ok(listener) => {
                tcp.report(&problems, None);
                tracing::info!(address = %tcp.address, "serving {}", tcp.what);
                return serve(listener, site, shutdown).await;
            }
            Err(error) => tcp.report(&problems, Some(tcp.problem(&error))),
        }
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            () = time::sleep(RETRY) => {}
        }
    }
}

impl Tcp {
    fn report(&self, problems: &Mutex<Problems>, problem: Option<Problem>) {
        let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.set(self.flag, problem.into_iter().collect());
    }

    fn problem(&self, error: &io::Error) -> Problem {
        let Self { address, what, flag } = self;
        let port = address.port();
        let message = if error.kind() == io::ErrorKind::AddrInUse {
            let holder = match port {
                10256 | 10249 => "kube-proxy serves there, if it still runs on this node",
                _ => "another process listens there",
            };
            format!("{what} not served: port {port} is taken ({holder}); tried again until it is free")
        } else {
            format!("{what} not served on {address}: {error}; tried again until it can be had")
        };
        Problem { kind: "PortTaken", object: format!("listener {address}"), field: (*flag).to_owned(), message }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        Ok(stream)
    }
}
