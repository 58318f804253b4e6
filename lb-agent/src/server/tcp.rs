//! Listening on TCP: a port that is taken is waited for.

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time,
};

use super::{Listener, Shutdown, Site, serve, stopped};
use crate::{logging::Problems, problem::Problem};

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
pub async fn serve_tcp(tcp: Tcp, site: Arc<dyn Site>, problems: Problems, mut shutdown: Shutdown) {
    loop {
        match TcpListener::bind(tcp.address).await {
            Ok(listener) => {
                problems.set(tcp.flag, BTreeSet::new());
                tracing::info!(address = %tcp.address, "{} is served", tcp.what);
                return serve(listener, site, shutdown).await;
            }
            Err(error) => problems.set(tcp.flag, BTreeSet::from([tcp.problem(&error)])),
        }
        tokio::select! {
            () = stopped(&mut shutdown) => {
                problems.set(tcp.flag, BTreeSet::new());
                return;
            }
            () = time::sleep(RETRY) => {}
        }
    }
}

impl Tcp {
    fn problem(&self, error: &io::Error) -> Problem {
        let Self { address, what, flag } = self;
        let port = address.port();
        let message = if error.kind() == io::ErrorKind::AddrInUse {
            let holder = match port {
                10256 | 10249 => "kube-proxy serves there, if it still runs on this node",
                _ => "another process listens there",
            };
            format!("{what} is not served: port {port} is taken ({holder}); tried again until it is free")
        } else {
            format!("{what} is not served on {address}: {error}; tried again")
        };
        Problem { kind: "Listener", object: address.to_string(), field: (*flag).into(), message }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        Ok(stream)
    }
}
