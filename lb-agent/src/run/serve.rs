//! `run`: from nothing to a served node, and out again.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc as channel, watch},
};

use super::{
    RunError,
    core::{self, Core},
    pods,
    shared::Shared,
};
use crate::{
    args::{Settings, Source},
    config::Config,
    datapath::{
        attach::Attached,
        install::Installed,
        netlink,
        node::{self, NodeSettings},
        pods::Pods,
        privileges, sys,
    },
    desired,
    desired::facts::Facts,
    health::Health,
    manifests,
    maps::raw::RawMap,
    metrics::Metrics,
    model::Model,
    reconcile::{Backoff, Reconciler},
    server::{ApiSite, ApiSocket, HealthSite, MetricsSite, Shutdown, Tcp, serve_tcp},
};

/// Addresses of devices are read this often even if netlink says nothing.
const ADDRESS_POLL: Duration = Duration::from_secs(30);

/// Serves this node until SIGTERM or SIGINT. The datapath stays in place.
pub(super) fn serve(settings: Settings) -> Result<(), RunError> {
    let failed = |what| move |source| RunError::Io { what, source };
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(RunError::Privileges { what: format!("{} missing", missing.join(", ")) });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(failed("start the runtime"))?;
    let socket = {
        let _inside = runtime.enter();
        ApiSocket::bind(&settings.socket)?
    };
    // Last of what can be refused: it makes maps, or new ones of another size.
    let installed = Installed::load(&settings.bpf_dir, &settings.cgroup, settings.config.maps.by_name())?;
    let maps = installed.maps()?;
    let told = node_settings(&settings.config);
    node::write_settings(&maps, &told)?;
    if let Ok(Some(cookie)) = sys::netns_cookie() {
        node::write_host(&maps, cookie)?;
    }
    let reconciler =
        Reconciler::new(installed.store()?, desired::Settings::from(&settings.config), Backoff::default())?;
    let Attached { made, swapped } = installed.attach()?;
    tracing::info!(node = %settings.node, cgroup = %settings.cgroup.display(), made, swapped, "programs attached");

    let shared = Arc::new(Shared {
        node: settings.node.clone(),
        settings: told,
        core: Mutex::new(Core {
            model: Model::default(),
            facts: Facts { node: settings.node.clone(), ..Facts::default() },
            reconciler,
            installed,
            source_names_orphans: false,
            synced: false,
            ready: false,
        }),
        canary: Mutex::default(),
        maps,
        problems: Arc::default(),
        health: Arc::new(Health::default()),
        metrics: Arc::new(Metrics::new()?),
    });
    let looks = shared.maps.get(lb_ebpf::abi::maps::CANARY).map(RawMap::try_clone);
    let looks = looks.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
    let looks = looks.and_then(|canary| Pods::new(canary, &settings.cgroup)).map_err(failed("look at namespaces"))?;

    let (to_core, core_told) = mpsc::channel();
    let (to_grace, grace_asked) = mpsc::channel();
    let (to_pods, pods_told) = mpsc::channel();
    let follow = core::Follow { grace: to_grace, pods: to_pods };
    let close_tcp = settings.config.socket.close_tcp;
    let threads = [
        spawn("grace", {
            let to_core = to_core.clone();
            move || core::wait_for_grace(&grace_asked, &to_core)
        }),
        spawn("pods", {
            let shared = Arc::clone(&shared);
            move || pods::run(&shared, looks, &pods_told, close_tcp)
        }),
        spawn("core", {
            let shared = Arc::clone(&shared);
            move || core::run(&shared, &core_told, &follow)
        }),
    ];
    let threads = threads.into_iter().collect::<io::Result<Vec<_>>>().map_err(failed("start a thread"))?;
    runtime.block_on(outside(&settings, &shared, socket, to_core)).map_err(failed("wait for a signal"))?;
    for thread in threads {
        // A thread that panicked has said so on standard error.
        drop(thread.join());
    }
    tracing::info!("the agent ends; the datapath stays in place");
    Ok(())
}

/// Runs sources and servers until a signal; then tells the core to stop.
async fn outside(
    settings: &Settings,
    shared: &Arc<Shared>,
    socket: ApiSocket,
    to_core: mpsc::Sender<core::Told>,
) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped): (_, Shutdown) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(socket.serve(Arc::new(ApiSite(Arc::clone(shared) as _)), stopped.clone()));
    if let Some(address) = settings.healthz {
        let tcp = Tcp { address, what: "health", flag: "--healthz-bind-address" };
        let site = HealthSite { health: Arc::clone(&shared.health), answers: Arc::clone(shared) as _ };
        servers.spawn(serve_tcp(tcp, Arc::new(site), Arc::clone(&shared.problems), stopped.clone()));
    }
    if let Some(address) = settings.metrics {
        let tcp = Tcp { address, what: "metrics", flag: "--metrics-bind-address" };
        let site = MetricsSite { metrics: Arc::clone(&shared.metrics), answers: Arc::clone(shared) as _ };
        servers.spawn(serve_tcp(tcp, Arc::new(site), Arc::clone(&shared.problems), stopped.clone()));
    }
    let (changed, mut changes) = channel::channel(4);
    let addresses = tokio::spawn(netlink::watch(changed, ADDRESS_POLL));
    let core = to_core.clone();
    tokio::spawn(async move {
        while let Some(addresses) = changes.recv().await {
            if core.send(core::Told::Addresses(addresses)).is_err() {
                return;
            }
        }
    });
    let (updated, mut updates) = channel::channel(4);
    let Source::Manifests(dir) = settings.source.clone();
    let source = tokio::spawn(manifests::watch(dir, updated));
    let core = to_core.clone();
    tokio::spawn(async move {
        while let Some(update) = updates.recv().await {
            if core.send(core::Told::Source(update)).is_err() {
                return;
            }
        }
    });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    addresses.abort();
    source.abort();
    // The receivers are there as long as the threads are.
    let _ = stop.send(true);
    while servers.join_next().await.is_some() {}
    let _ = to_core.send(core::Told::Stop);
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn node_settings(config: &Config) -> NodeSettings {
    NodeSettings {
        host_namespace_only: config.socket.host_namespace_only,
        remember_peer: config.socket.remember_peer,
        exclude_cgroups: config.socket.exclude_cgroups.clone(),
    }
}
