//! The thread that turns objects into maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{pods, shared::Shared};
use crate::{
    datapath::{grace, install::Installed, netlink::LocalAddress, node},
    desired::facts::{self, Facts},
    grace::Epoch,
    health::Moment,
    maps::kernel::KernelStore,
    model::{Changes, Model, Name},
    plan::Op,
    problem::Problem,
    reconcile::Reconciler,
    source::Update,
};

/// The maps are compared with what they should hold this often, whatever happens.
const READ_BACK: Duration = Duration::from_secs(30);
/// The kind of problem of slices without a Service. A directory of manifests sees it at once and by the slice's field,
/// the maps only by the Service: it is said once.
const NO_SERVICE: &str = "NoService";

/// Objects and maps.
pub(super) struct Core {
    /// The objects that exist.
    pub(super) model: Model,
    /// This node.
    pub(super) facts: Facts,
    /// Keeps the maps as the objects want them.
    pub(super) reconciler: Reconciler<KernelStore>,
    /// The programs behind the maps.
    pub(super) installed: Installed,
    /// The source itself names slices that have no Service.
    pub(super) source_names_orphans: bool,
    /// Every first list has been read.
    pub(super) synced: bool,
    /// The maps have held what was wanted at least once since then.
    pub(super) ready: bool,
}

/// What the core is told.
pub(super) enum Told {
    /// The source has something.
    Source(Update),
    /// The devices' addresses.
    Addresses(Vec<LocalAddress>),
    /// Every program that ran at that time has ended.
    Passed(Epoch),
    /// Nothing more comes.
    Stop,
}

/// Where the core's thread sends what follows from a step.
pub(super) struct Follow {
    /// Grace periods to wait for.
    pub(super) grace: Sender<Epoch>,
    /// Pods and removed backends.
    pub(super) pods: Sender<pods::Told>,
}

/// Runs until told to stop.
pub(super) fn run(shared: &Arc<Shared>, told: &Receiver<Told>, follow: &Follow) {
    let started = Instant::now();
    let mut again = Some(Duration::ZERO);
    let mut read_back = started + READ_BACK;
    let mut asked = None;
    let mut told_pods = false;
    loop {
        let until_read_back = read_back.saturating_duration_since(Instant::now());
        let first = match told.recv_timeout(again.unwrap_or(until_read_back).min(until_read_back)) {
            Ok(told) => Some(told),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut core = shared.core();
        let mut work = first.is_none();
        for told in first.into_iter().chain(std::iter::from_fn(|| more(told))) {
            match told {
                Told::Source(update) => work |= core.follow_source(shared, follow, update),
                Told::Addresses(local) => work |= core.follow_addresses(shared, local),
                Told::Passed(epoch) => work |= core.reconciler.passed(epoch),
                Told::Stop => return,
            }
        }
        if Instant::now() >= read_back {
            read_back = Instant::now() + READ_BACK;
            if let Err(error) = core.reconciler.read_back() {
                tracing::warn!(%error, "the maps cannot be read back");
            }
            core.write_config(shared);
        }
        if !work {
            continue;
        }
        again = core.step(shared, follow, started, &mut asked);
        if !told_pods {
            told_pods = true;
            core.tell_pods(follow);
        }
    }
}

fn more(told: &Receiver<Told>) -> Option<Told> {
    told.try_recv().ok()
}

/// Waits for grace periods until nobody asks any more.
pub(super) fn wait_for_grace(asked: &Receiver<Epoch>, core: &Sender<Told>) {
    while let Ok(mut epoch) = asked.recv() {
        // What was asked for before the wait begins is answered by the same wait.
        while let Ok(later) = asked.try_recv() {
            epoch = later;
        }
        grace::wait();
        if core.send(Told::Passed(epoch)).is_err() {
            return;
        }
    }
}

impl Core {
    fn follow_source(&mut self, shared: &Shared, follow: &Follow, update: Update) -> bool {
        self.source_names_orphans = update.problems.iter().any(|problem| problem.kind == NO_SERVICE);
        shared.report("source", update.problems);
        let mut changes = Changes::default();
        for event in update.events {
            if matches!(event, crate::model::Event::Reset(_)) && !self.synced {
                self.synced = true;
                self.reconciler.synced();
            }
            changes.merge(self.model.apply(event));
        }
        if changes.is_empty() && self.ready {
            return false;
        }
        shared.health.queued(Moment::now());
        if changes.nodes {
            self.refresh_facts(shared);
        }
        if changes.nodes || changes.pods {
            self.tell_pods(follow);
        }
        self.reconciler.event(changes);
        true
    }

    fn follow_addresses(&mut self, shared: &Shared, local: Vec<LocalAddress>) -> bool {
        let local: BTreeSet<_> =
            local.into_iter().map(|held| facts::LocalAddress { address: held.address, device: held.device }).collect();
        if self.facts.local == local {
            return false;
        }
        self.facts.local = local;
        self.refresh_facts(shared);
        true
    }

    fn refresh_facts(&mut self, shared: &Shared) {
        let node = std::mem::take(&mut self.facts.node);
        let local = std::mem::take(&mut self.facts.local);
        self.facts = Facts::new(&self.model, &node, local);
        shared.health.node(self.model.nodes.get(&node).is_some_and(|node| node.leaving));
        self.write_config(shared);
    }

    /// Writes what the programs read of the configuration and of this node, where it is not there.
    fn write_config(&self, shared: &Shared) {
        let written = node::write_settings(&shared.maps, &shared.settings)
            .and_then(|()| node::write_addresses(&shared.maps, &self.host_addresses()));
        let problems = written.err().map(|error| Problem {
            kind: "MapWrite",
            object: "Map config".to_owned(),
            field: String::new(),
            message: format!("the programs go on with what they were told before: {error}"),
        });
        shared.report("node", problems.into_iter().collect());
    }

    /// Attaches again what somebody else has detached.
    pub(super) fn keep_attached(&mut self, shared: &Shared) {
        let problem = match self.installed.mend() {
            Ok(0) => None,
            Ok(hooks) => {
                tracing::warn!(hooks, "somebody else had detached hooks; they are attached again");
                None
            }
            Err(error) => Some(Problem {
                kind: "Detached",
                object: format!("Node {}", shared.node),
                field: "--cgroup".to_owned(),
                message: format!("somebody else has detached hooks, and they cannot be attached again: {error}"),
            }),
        };
        shared.report("hooks", problem.into_iter().collect());
    }

    /// The addresses that host-network clients count as: the Node's, or where there is no Node, the first of each
    /// family that a device holds.
    fn host_addresses(&self) -> Vec<IpAddr> {
        if !self.facts.primary.is_empty() {
            return self.facts.primary.clone();
        }
        let usable = |address: &&IpAddr| match address {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        let local: Vec<_> = self.facts.local.iter().map(|held| held.address).collect();
        let first = |v4: bool| local.iter().filter(usable).find(|address| address.is_ipv4() == v4).copied();
        first(true).into_iter().chain(first(false)).collect()
    }

    /// Sends the addresses of this node's pods to the thread that looks after them.
    fn tell_pods(&self, follow: &Follow) {
        let mut pods: BTreeMap<IpAddr, Name> = BTreeMap::new();
        for pod in self.model.pods.values() {
            if pod.node == self.facts.node && !pod.host_network && !pod.finished {
                pods.extend(pod.ips.iter().map(|ip| (*ip, pod.name.clone())));
            }
        }
        // The receiver ends with the agent.
        let node = self.host_addresses().into_iter().collect();
        let _ = follow.pods.send(pods::Told::Pods { pods, node });
    }

    fn step(
        &mut self,
        shared: &Shared,
        follow: &Follow,
        started: Instant,
        asked: &mut Option<Epoch>,
    ) -> Option<Duration> {
        let began = Instant::now();
        let mut outcome = self.reconciler.step(&self.model, &self.facts, started.elapsed());
        if self.source_names_orphans {
            outcome.problems.retain(|problem| problem.kind != NO_SERVICE);
        }
        shared.report("maps", outcome.problems);
        let mut stages: BTreeMap<&str, u64> = BTreeMap::new();
        for op in &outcome.plan {
            *stages.entry(op.stage()).or_default() += 1;
        }
        shared.metrics.synced(
            began.elapsed(),
            stages.iter().map(|(stage, count)| (*stage, *count)),
            outcome.failures.len() as u64,
            Moment::now().unix_seconds(),
        );
        if outcome.failures.is_empty() {
            shared.health.updated(Moment::now());
            if self.synced && !self.ready {
                self.ready = true;
                tracing::info!(services = self.model.services.len(), took = ?began.elapsed(), "ready");
            }
        }
        if !outcome.plan.is_empty() {
            tracing::debug!(ops = outcome.plan.len(), failed = outcome.failures.len(), took = ?began.elapsed(), "maps written");
        }
        if let Some(epoch) = outcome.grace
            && *asked != Some(epoch)
        {
            *asked = Some(epoch);
            let _ = follow.grace.send(epoch);
        }
        let removed: Vec<_> = outcome
            .plan
            .iter()
            .filter(|op| !outcome.failures.iter().any(|failure| failure.op == **op))
            .filter_map(|op| match op {
                Op::RemoveBackend { id, backend } => Some((*id, *backend)),
                Op::ClearAddress { .. }
                | Op::RemoveFrontend { .. }
                | Op::SetRange { .. }
                | Op::SetBackend { .. }
                | Op::SetTable { .. }
                | Op::SetFrontend { .. }
                | Op::SetAddress { .. }
                | Op::SettleBackend { .. }
                | Op::RemoveRange { .. } => None,
            })
            .collect();
        if !removed.is_empty() {
            let _ = follow.pods.send(pods::Told::Removed(removed));
        }
        if self.grow_arena(shared) { Some(Duration::ZERO) } else { outcome.again }
    }

    /// Makes the arena larger when it is short. True if there is room now for what was left out.
    fn grow_arena(&mut self, shared: &Shared) -> bool {
        let Some(lines) = self.reconciler.desired().arena_wanted() else { return false };
        let grown = self.installed.grow_arena(lines).and_then(|()| self.installed.store());
        let problem = match grown {
            Ok(store) => {
                *self.reconciler.store_mut() = store;
                self.reconciler.grow_arena();
                tracing::info!(lines, "the arena is larger");
                None
            }
            Err(error) => Some(Problem {
                kind: "MapFull",
                object: "Map arena".to_owned(),
                field: "maps.arenaLines".to_owned(),
                message: format!("it cannot grow to {lines} lines: {error}"),
            }),
        };
        let grown = problem.is_none();
        shared.report("arena", problem.into_iter().collect());
        grown
    }
}
