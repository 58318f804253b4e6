//! How a lab comes up, step by step; what was made before a failing step is removed by the guard or by the drop.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    unistd::geteuid,
};

use super::{
    Lab, Options,
    agent::{Proxy, RunningAgent},
    cgroup,
    netns::{self, Role},
    object::Object,
    server::{Spec, Starting},
    state::{ClientState, NodeState, PodState, State, write_atomically},
    teardown::{Guard, sweep, tear_down},
    topology::{Pod, Topology},
    wiring::{self, Batch},
};

impl Lab {
    /// Brings a lab up; when this returns, every server listens and every agent is ready.
    pub fn up(topology: &Topology, options: &Options) -> Result<Self> {
        ensure!(geteuid().is_root(), "the lab needs root: it makes network namespaces and cgroups");
        sweep()?;
        netns::prepare_dir()?;
        let state = State::create(options.name.clone(), options.proxy)?;
        let guard = match Guard::start(&state.id) {
            Ok(guard) => guard,
            Err(error) => {
                tear_down(&state.id)?;
                return Err(error);
            }
        };
        let mut lab = Self { state, guard: Some(guard), children: Vec::new(), ready_timeout: options.ready_timeout };
        lab.write_down(topology, options)?;
        lab.make_cgroups()?;
        lab.make_network()?;
        lab.make_directories(&topology.objects)?;
        let pods: Vec<Pod> = topology.pods.clone();
        lab.start_servers(&pods)?;
        lab.start_agents()?;
        Ok(lab)
    }

    fn write_down(&mut self, topology: &Topology, options: &Options) -> Result<()> {
        for name in options.agents.keys() {
            ensure!(
                topology.nodes.iter().any(|node| node.name == *name),
                "options for an agent: there is no node `{name}`"
            );
        }
        let state = &mut self.state;
        for (index, node) in topology.nodes.iter().enumerate() {
            let options = options.agents.get(&node.name).unwrap_or(&options.agent).clone();
            state.nodes.push(NodeState { node: node.clone(), device: format!("node{index}"), options, agent: None });
        }
        for (index, client) in topology.clients.iter().enumerate() {
            state.clients.push(ClientState { client: client.clone(), device: format!("client{index}") });
        }
        for pod in &topology.pods {
            let device = state.next_pod_device(pod);
            state.pods.push(PodState { pod: pod.clone(), device, server: None });
        }
        state.routes.clone_from(&topology.routes);
        state.save()
    }

    fn make_cgroups(&self) -> Result<()> {
        let state = &self.state;
        cgroup::create(&state.fabric_place().cgroup)?;
        for client in &state.clients {
            cgroup::create(&state.client_place(&client.client.name).cgroup)?;
        }
        for node in &state.nodes {
            cgroup::create(&state.node_place(&node.node.name).cgroup)?;
        }
        state.pods.iter().try_for_each(|pod| cgroup::create(&state.pod_place(&pod.pod).cgroup))
    }

    fn make_network(&self) -> Result<()> {
        let state = &self.state;
        let file = |path: PathBuf| path.file_name().expect("a namespace has a name").to_string_lossy().into_owned();
        let own: Vec<&PodState> = state.pods.iter().filter(|pod| !pod.pod.host_network).collect();
        let mut names = vec![(file(state.fabric_place().namespace), Role::Router)];
        names.extend(state.nodes.iter().map(|node| (file(state.node_place(&node.node.name).namespace), Role::Router)));
        names.extend(state.clients.iter().map(|c| (file(state.client_place(&c.client.name).namespace), Role::Host)));
        names.extend(own.iter().map(|pod| (file(state.pod_place(&pod.pod).namespace), Role::Host)));
        wiring::create_namespaces(&names)?;

        let fabric_path = state.fabric_place().namespace;
        let nodes: Vec<(&NodeState, PathBuf)> =
            state.nodes.iter().map(|node| (node, state.node_place(&node.node.name).namespace)).collect();
        let clients: Vec<(&ClientState, PathBuf)> =
            state.clients.iter().map(|client| (client, state.client_place(&client.client.name).namespace)).collect();
        let pods: Vec<(&PodState, PathBuf)> =
            own.into_iter().map(|pod| (pod, state.pod_place(&pod.pod).namespace)).collect();

        // First the devices, which need both ends' namespaces, then the addresses behind them.
        let mut fabric = Batch::new(&fabric_path);
        fabric.fabric();
        for (node, path) in &nodes {
            fabric.link(&node.device, path);
            fabric.fabric_to_node(&node.device, &node.node);
        }
        for (client, path) in &clients {
            fabric.link(&client.device, path);
            fabric.fabric_to_client(&client.device, &client.client);
        }
        for (pod, _) in &pods {
            let node = state.node(&pod.pod.node)?;
            fabric.fabric_to_pod(&node.device, &pod.pod, &node.node);
        }
        for route in &state.routes {
            let node = state.node(&route.node)?;
            fabric.fabric_route(&node.device, route, &node.node);
        }
        wiring::run(vec![fabric])?;

        let mut outer = Vec::new();
        for (node, path) in &nodes {
            let mut batch = Batch::new(path);
            batch.inside(&node.node.addresses);
            batch.node_ranges(&node.node);
            for (pod, pod_path) in pods.iter().filter(|(pod, _)| pod.pod.node == node.node.name) {
                let device = pod.device.as_deref().expect("a pod outside the host's network has a device");
                batch.link(device, pod_path);
                batch.node_to_pod(device, &pod.pod);
            }
            outer.push(batch);
        }
        for (client, path) in &clients {
            let mut batch = Batch::new(path);
            batch.inside(&client.client.addresses);
            outer.push(batch);
        }
        wiring::run(outer)?;

        let mut inner = Vec::new();
        for (pod, path) in &pods {
            let mut batch = Batch::new(path);
            batch.inside(&pod.pod.addresses);
            inner.push(batch);
        }
        wiring::run(inner)?;
        for (node, path) in &nodes {
            let mine = pods.iter().filter(|(pod, _)| pod.pod.node == node.node.name);
            let devices: Vec<String> = mine.filter_map(|(pod, _)| pod.device.clone()).collect();
            wiring::answer_for_gateway(path, &devices)?;
        }
        Ok(())
    }

    fn make_directories(&self, objects: &[Object]) -> Result<()> {
        let state = &self.state;
        let make = |path: &Path| fs::create_dir_all(path).with_context(|| path.display().to_string());
        make(&state.dir().join("logs"))?;
        make(&state.objects_dir())?;
        let mut targets = vec![state.objects_dir()];
        for node in &state.nodes {
            let directory = state.node_dir(&node.node.name);
            for name in ["manifests", "state", "bpf"] {
                make(&directory.join(name))?;
            }
            mount_bpffs(&directory.join("bpf"))?;
            targets.push(directory.join("manifests"));
        }
        objects.iter().try_for_each(|object| write_object(object, &targets))
    }

    /// Starts the servers of these pods, which are up, and waits until they listen.
    pub(super) fn start_servers(&mut self, pods: &[Pod]) -> Result<()> {
        let mut starting = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.ports.is_empty()) {
            let spec = Spec::of(pod, self.state.server_log(pod));
            starting.push((pod, Starting::spawn(&spec, &self.state.pod_place(pod))?));
        }
        for (pod, server) in starting {
            let (process, child) = server.wait()?;
            self.children.push(child);
            let state = self.state.pods.iter_mut().find(|state| state.pod.full_name() == pod.full_name());
            state.expect("the pod was written down before its server started").server = Some(process);
        }
        self.state.save()
    }

    /// Starts all agents, then waits for each.
    fn start_agents(&mut self) -> Result<()> {
        if self.state.proxy == Proxy::None {
            return Ok(());
        }
        let names = self.state.nodes.iter().filter(|node| !node.options.absent).map(|node| node.node.name.clone());
        let mut agents: Vec<(String, RunningAgent)> = Vec::new();
        for name in names.collect::<Vec<_>>() {
            let agent = self.launch_agent(&name)?;
            agents.push((name, agent));
        }
        for (name, agent) in agents {
            agent.wait_ready(self.ready_timeout).with_context(|| format!("Node {name}"))?;
        }
        Ok(())
    }
}

impl State {
    /// Returns the name of a new pod's device on its node; none when it needs none.
    pub(super) fn next_pod_device(&mut self, pod: &Pod) -> Option<String> {
        if pod.host_network {
            return None;
        }
        let device = format!("pod{}", self.next_device);
        self.next_device += 1;
        Some(device)
    }
}

/// Writes an object into directories of manifests, one file for each object.
pub(super) fn write_object(object: &Object, directories: &[PathBuf]) -> Result<()> {
    let yaml = object.to_yaml()?;
    directories.iter().try_for_each(|directory| write_atomically(directory, &object.file_name(), yaml.as_bytes()))
}

fn mount_bpffs(path: &Path) -> Result<()> {
    mount(Some("lb-lab"), path, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("mount -t bpf {}", path.display()))
}
