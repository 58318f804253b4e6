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
        grace, node,
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

/// What the thread is told.
pub(super) enum Told {
    /// This node and its pods, by the objects; told first when the maps hold what a canary needs.
    Pods {
        /// The addresses of pods that have a namespace of their own.
        pods: BTreeMap<IpAddr, Name>,
        /// The addresses of the node: a device that holds one leads away from it, to no pod.
        node: BTreeSet<IpAddr>,
    },
    /// Backends that are gone.
    Removed(Vec<(BackendId, Backend)>),
}

/// Runs until nobody tells anything any more.
pub(super) fn run(shared: &Arc<Shared>, mut pods: Pods, told: &Receiver<Told>, close_tcp: bool) {
    let (mut known, mut uplinks) = (BTreeMap::new(), BTreeSet::new());
    let mut doomed = BTreeSet::new();
    let mut next = None;
    loop {
        let first = match next {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(next) => told.recv_timeout(Instant::saturating_duration_since(&next, Instant::now())),
        };
        match first {
            Ok(Told::Pods { pods, node }) => {
                (known, uplinks) = (pods, node);
                next = soon(next.or(Some(Instant::now())));
                continue;
            }
            Ok(Told::Removed(removed)) => {
                // A program that still chose one of them has remembered its socket by then.
                grace::wait();
                doomed.extend(Family::ALL.into_iter().flat_map(|family| match family {
                    Family::V4 => translated::<V4>(shared, &removed, close_tcp),
                    Family::V6 => translated::<V6>(shared, &removed, close_tcp),
                }));
                // Closed after a look of its own: a socket's namespace may be younger than the last one.
                if !doomed.is_empty() {
                    next = soon(next);
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        shared.core().keep_attached(shared);
        match pods.look(&known, &uplinks) {
            Ok(look) => {
                let namespaces = report(shared, look);
                close(&std::mem::take(&mut doomed), &namespaces);
            }
            Err(error) => {
                tracing::warn!(%error, "pods cannot be looked at");
                shared.health.canary(false, Moment::now());
            }
        }
        next = Some(Instant::now() + PERIOD);
    }
}

/// Brings the next look forward. Before the first one is due, there is nothing to bring forward.
fn soon(next: Option<Instant>) -> Option<Instant> {
    next.map(|next| next.min(Instant::now() + PAUSE))
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
    // Where no hook works, that is the one thing to say.
    for (pod, why) in look.uncovered.iter().filter(|_| look.hooks_work) {
        problems.insert(Problem {
            kind: "Canary",
            object: format!("Pod {pod}"),
            field: "--cgroup".to_owned(),
            message: format!("Services do not work in it: {why}"),
        });
    }
    shared.report("pods", problems);
    let now = Moment::now();
    let canary = Canary {
        ok: look.hooks_work && look.uncovered.is_empty(),
        last_unix: now.unix_seconds(),
        uncovered: look.uncovered.into_keys().collect(),
    };
    shared.health.canary(canary.ok, now);
    *locked(&shared.canary) = canary;
    look.namespaces
}

/// Closes the sockets of these cookies, which hooks sent to backends that are gone: UDP, whose owner would never learn
/// it, and by option TCP.
fn close(cookies: &BTreeSet<u64>, namespaces: &[File]) {
    if cookies.is_empty() {
        return;
    }
    let mut closed = 0;
    for namespace in namespaces {
        match sockets::close(namespace, cookies) {
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
