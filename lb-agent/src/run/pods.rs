//! The thread that looks after pods: their addresses by namespace, the canary, and sockets on backends that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use lb_ebpf::abi::{
    address::{Address, V4, V6},
    flow::Peer,
    maps::PEERS,
};
use zerocopy::FromBytes as _;

use super::shared::{Shared, locked};
use crate::{
    api::status::Canary,
    datapath::{
        node,
        pods::{Look, Pods},
        sockets,
    },
    desired::state::{Backend, BackendId},
    health::Moment,
    model::{
        Name,
        addr::{Family, Protocol},
    },
    problem::Problem,
};

/// Pods are looked at this often: a pod that no object names is found by then, and a canary is never older.
const PERIOD: Duration = Duration::from_secs(2);
/// At least so long lies between two looks, however often pods change.
const PAUSE: Duration = Duration::from_millis(100);

/// The first look is not put off for longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the thread is told.
pub(super) enum Told {
    /// The maps hold the canary's frontends, for the first time since the start.
    Begin,
    /// The addresses of this node's pods, by the objects.
    Pods(BTreeMap<IpAddr, Name>),
    /// Backends that are gone.
    Removed(Vec<(BackendId, Backend)>),
}

/// Runs until nobody tells anything any more.
pub(super) fn run(shared: &Arc<Shared>, mut pods: Pods, told: &Receiver<Told>, close_tcp: bool) {
    let mut known = BTreeMap::new();
    let mut namespaces = Vec::new();
    // A canary that is dialled before its frontend is in the maps proves nothing.
    let mut next = None;
    loop {
        let wait = next.map_or(PATIENCE, |next: Instant| next.saturating_duration_since(Instant::now()));
        match told.recv_timeout(wait) {
            Ok(Told::Begin) => {
                next = Some(Instant::now());
                continue;
            }
            Ok(Told::Pods(now)) => {
                known = now;
                next = next.map(|next| next.min(Instant::now() + PAUSE));
                continue;
            }
            Ok(Told::Removed(removed)) => {
                close(shared, &removed, &namespaces, close_tcp);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match pods.look(&known) {
            Ok(look) => namespaces = report(shared, look),
            Err(error) => {
                tracing::warn!(%error, "pods cannot be looked at");
                shared.health.canary(false, Moment::now());
            }
        }
        next = Some(Instant::now() + PERIOD);
    }
}

/// Writes down what a look found; returns the namespaces.
fn report(shared: &Shared, look: Look) -> Vec<File> {
    let mut problems = BTreeSet::new();
    let written =
        node::write_host(&shared.maps, look.host).and_then(|()| node::write_clients(&shared.maps, &look.clients));
    if let Err(error) = written {
        problems.insert(Problem {
            kind: "MapWrite",
            object: "Map clients".to_owned(),
            field: String::new(),
            message: format!("affinity and source ranges of new pods go by namespace: {error}"),
        });
    }
    if !look.hooks_work {
        problems.insert(Problem {
            kind: "Canary",
            object: format!("Node {}", shared.node),
            field: "--cgroup".to_owned(),
            message:
                "the hooks do not see a connect made by the agent itself: they are attached to a cgroup that does \
                      not hold it, or were detached; Services do not work on this node"
                    .to_owned(),
        });
    }
    for pod in &look.uncovered {
        problems.insert(Problem {
            kind: "Canary",
            object: format!("Pod {pod}"),
            field: "--cgroup".to_owned(),
            message: "its processes lie outside the cgroup that the hooks are attached to: Services do not work in it"
                .to_owned(),
        });
    }
    shared.report("pods", problems);
    let now = Moment::now();
    let canary = Canary {
        ok: look.hooks_work && look.uncovered.is_empty(),
        last_unix: now.unix_seconds(),
        uncovered: look.uncovered,
    };
    shared.health.canary(canary.ok, now);
    *locked(&shared.canary) = canary;
    look.namespaces
}

/// Closes the sockets that hooks sent to backends which are gone: UDP, whose owner would never learn it, and by
/// option TCP.
fn close(shared: &Shared, removed: &[(BackendId, Backend)], namespaces: &[File], close_tcp: bool) {
    let cookies: BTreeSet<u64> = Family::ALL
        .into_iter()
        .flat_map(|family| match family {
            Family::V4 => translated::<V4>(shared, removed, close_tcp),
            Family::V6 => translated::<V6>(shared, removed, close_tcp),
        })
        .collect();
    if cookies.is_empty() {
        return;
    }
    let mut closed = 0;
    for namespace in namespaces {
        match sockets::close(namespace, &cookies) {
            Ok(count) => closed += count,
            Err(error) => tracing::warn!(%error, "sockets on removed backends stay open in a namespace"),
        }
    }
    tracing::info!(closed, translated = cookies.len(), "sockets on removed backends closed");
}

/// Cookies of the sockets that were sent to one of the backends. An id alone does not tell: it may have been used
/// before, by a backend whose sockets live on.
fn translated<A: Address>(shared: &Shared, removed: &[(BackendId, Backend)], close_tcp: bool) -> Vec<u64>
where
    IpAddr: From<A>,
{
    let Some(Ok(peers)) = shared.maps.get(PEERS[A::INDEX]).map(|map| map.entries()) else { return Vec::new() };
    let gone: BTreeMap<u32, &Backend> = removed
        .iter()
        .filter(|(id, _)| (id.family == Family::V4) == (A::FAMILY == 4))
        .map(|(id, backend)| (id.id, backend))
        .collect();
    peers
        .into_iter()
        .filter_map(|(cookie, peer)| {
            let peer = Peer::<A>::read_from_bytes(&peer).ok()?;
            let backend = gone.get(&u32::from_ne_bytes(peer.backend_id))?;
            let same = backend.service == u32::from_ne_bytes(peer.service)
                && backend.address == IpAddr::from(peer.backend)
                && backend.port == u16::from_be_bytes(peer.backend_port);
            let wanted = close_tcp || peer.protocol == Protocol::Udp.number();
            (same && wanted).then_some(u64::from_ne_bytes(*cookie.first_chunk()?))
        })
        .collect()
}
