//! Objects that come and go while a lab is up.

use std::{fs, io, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Lab, cgroup,
    netns::{self, Role},
    object::Object,
    state::PodState,
    topology::{Node, Pod, assign_addresses},
    up::write_object,
    wiring::{self, Batch},
};

const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl Lab {
    /// Gives objects to every agent; a new or changed Pod gets its namespace and its server first.
    pub fn apply(&mut self, objects: Vec<Object>) -> Result<()> {
        for object in objects {
            self.apply_one(object)?;
        }
        Ok(())
    }

    /// Takes objects from every agent; a Pod's namespace and server go with it.
    pub fn delete(&mut self, objects: &[Object]) -> Result<()> {
        for object in objects {
            let known = self.state.objects_dir().join(object.file_name()).exists();
            ensure!(known, "{object}: there is no such object");
            let is_node = self.state.nodes.iter().any(|state| state.node.name == object.name);
            ensure!(object.kind != "Node" || !is_node, "{object}: a node of the lab stays as long as the lab");
            for directory in self.object_directories() {
                remove_file(&directory.join(object.file_name()))?;
            }
            if object.kind == "Pod" {
                self.remove_pod(&object.full_name())?;
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, object: Object) -> Result<()> {
        let mut objects = [object];
        match objects[0].kind.as_str() {
            "Lab" => bail!("Lab: it cannot change while the lab is up"),
            "Node" => self.check_node(&objects[0])?,
            "Pod" => self.apply_pod(&mut objects)?,
            _ => {}
        }
        write_object(&objects[0], &self.object_directories())
    }

    fn check_node(&self, object: &Object) -> Result<()> {
        let Some(given) = Node::read(object)? else { return Ok(()) };
        let Ok(standing) = self.state.node(&given.name) else {
            bail!("{object}: a node cannot join while the lab is up (lab/absent: \"true\" makes it an object only)");
        };
        ensure!(standing.node == given, "{object}: its addresses and podCIDRs cannot change while the lab is up");
        Ok(())
    }

    fn apply_pod(&mut self, objects: &mut [Object; 1]) -> Result<()> {
        let nodes: Vec<Node> = self.state.nodes.iter().map(|state| state.node.clone()).collect();
        let name = objects[0].full_name();
        let standing =
            self.state.pods.iter().find(|state| state.pod.full_name() == name).map(|state| state.pod.clone());
        let Some(mut pod) = Pod::read(&objects[0], &nodes)? else { return self.remove_pod(&name) };
        if let Some(standing) =
            standing.as_ref().filter(|standing| standing.node == pod.node && pod.addresses.is_empty())
        {
            pod.addresses.clone_from(&standing.addresses);
        }
        let others = self.state.pods.iter().map(|state| &state.pod);
        let others =
            others.filter(|other| !other.host_network && other.full_name() != name).flat_map(|pod| &pod.addresses);
        let clients = self.state.clients.iter().flat_map(|state| &state.client.addresses);
        let taken: Vec<IpAddr> = others.chain(clients).copied().collect();
        if let Some(address) = pod.addresses.iter().find(|address| !pod.host_network && taken.contains(address)) {
            bail!("Pod {name}: status.podIPs: {address} is taken");
        }
        assign_addresses(std::slice::from_mut(&mut pod), &nodes, &taken)?;
        pod.write_status(objects, &nodes);
        if standing.as_ref() == Some(&pod) {
            return Ok(());
        }
        self.remove_pod(&name)?;
        self.add_pod(pod)
    }

    fn add_pod(&mut self, pod: Pod) -> Result<()> {
        let device = self.state.next_pod_device(&pod);
        self.state.pods.push(PodState { pod: pod.clone(), device: device.clone(), server: None });
        self.state.save()?;
        let place = self.state.pod_place(&pod);
        cgroup::create(&place.cgroup)?;
        if let Some(device) = device {
            let name = place.namespace.file_name().expect("a namespace has a name").to_string_lossy();
            netns::create(&name, Role::Host)?;
            let node_path = self.state.node_place(&pod.node).namespace;
            let mut outside = Batch::more(&node_path);
            outside.link(&device, &place.namespace);
            outside.node_to_pod(&device, &pod);
            wiring::run(vec![outside])?;
            let fabric_path = self.state.fabric_place().namespace;
            let mut fabric = Batch::more(&fabric_path);
            let node = self.state.node(&pod.node)?;
            fabric.fabric_to_pod(&node.device, &pod, &node.node);
            let mut inside = Batch::new(&place.namespace);
            inside.inside(&pod.addresses);
            wiring::run(vec![fabric, inside])?;
            wiring::answer_for_gateway(&node_path, &[device])?;
        }
        self.start_servers(&[pod])
    }

    /// Removes a pod's processes, cgroup and namespace; fine when there is no such pod.
    pub(super) fn remove_pod(&mut self, name: &str) -> Result<()> {
        let Some(index) = self.state.pods.iter().position(|state| state.pod.full_name() == name) else { return Ok(()) };
        let PodState { pod, device, server } = self.state.pods[index].clone();
        let place = self.state.pod_place(&pod);
        cgroup::remove(&place.cgroup, KILL_TIMEOUT)?;
        if let Some(server) = server {
            self.reap(server.pid);
        }
        if let Some(device) = device {
            // Not left to the end of the namespace, which comes later: the pod's address may be given anew at once.
            let node_path = self.state.node_place(&pod.node).namespace;
            let mut outside = Batch::more(&node_path);
            outside.unlink(&device);
            let fabric_path = self.state.fabric_place().namespace;
            let mut fabric = Batch::more(&fabric_path);
            fabric.forget_pod(&pod, &self.state.node(&pod.node)?.node);
            wiring::run(vec![outside, fabric])?;
            netns::remove(&place.namespace.file_name().expect("a namespace has a name").to_string_lossy())?;
        }
        self.state.pods.remove(index);
        self.state.save()
    }

    fn reap(&mut self, pid: i32) {
        let mine = |child: &std::process::Child| i32::try_from(child.id()).is_ok_and(|id| id == pid);
        if let Some(index) = self.children.iter().position(mine) {
            let _ = self.children.swap_remove(index).wait();
        }
    }

    fn object_directories(&self) -> Vec<PathBuf> {
        let nodes = self.state.nodes.iter().map(|state| self.state.manifests(&state.node.name));
        nodes.chain([self.state.objects_dir()]).collect()
    }
}

fn remove_file(path: &PathBuf) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| path.display().to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}
