//! Devices, addresses and routes, in batches for `ip`, one for each namespace.
//!
//! The shape is a routed CNI's, without a bridge: a router in the middle (the fabric) with a veth to each node and client,
//! and on each node a veth and a host route for each pod. A node's gateway is the fabric's 169.254.1.1 and fe80::1; a pod's
//! has the same addresses, answered by its node through proxy ARP and a link-local address on the pod's device.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{
    cidr::Cidr,
    netns::{self, Role},
    place::enter_namespace,
    topology::{Client, Node, Pod, Route},
};

const GATEWAY4: &str = "169.254.1.1";
const GATEWAY6: &str = "fe80::1";
/// What the fabric's ICMPv6 errors come from: link-local sources are not forwarded.
const FABRIC6: &str = "fd6c:6162::1";

/// Commands for `ip` inside one namespace.
#[derive(Debug)]
pub struct Batch<'a> {
    namespace: &'a Path,
    commands: String,
}

impl<'a> Batch<'a> {
    /// Starts a batch that brings loopback up.
    pub fn new(namespace: &'a Path) -> Self {
        Self { namespace, commands: "link set lo up\n".to_owned() }
    }

    /// Starts an empty batch for a namespace that is up.
    pub fn more(namespace: &'a Path) -> Self {
        Self { namespace, commands: String::new() }
    }

    fn add(&mut self, command: std::fmt::Arguments<'_>) {
        self.commands.write_fmt(command).expect("writing to a string cannot fail");
        self.commands.push('\n');
    }

    /// Adds the fabric's own part, once.
    pub fn fabric(&mut self) {
        self.add(format_args!("addr add {FABRIC6}/128 dev lo nodad"));
        // What nothing holds is dropped without a word, as the internet does it.
        self.add(format_args!("route add blackhole default"));
        self.add(format_args!("route add blackhole ::/0"));
    }

    /// Adds a device of this namespace whose other end is `eth0` of another.
    pub fn link(&mut self, device: &str, peer: &Path) {
        self.add(format_args!("link add {device} type veth peer name eth0 netns {}", peer.display()));
    }

    /// Adds the fabric's side of a node: its addresses are behind the device, its pods behind its addresses.
    pub fn fabric_to_node(&mut self, device: &str, node: &Node) {
        self.fabric_to(device, &node.addresses);
        for cidr in node.cidrs() {
            let via = node.address(cidr.is_ipv4()).expect("a node has an InternalIP for each family of its podCIDRs");
            self.add(format_args!("route add {cidr} via {via} dev {device} onlink"));
        }
    }

    /// Adds the fabric's side of a client.
    pub fn fabric_to_client(&mut self, device: &str, client: &Client) {
        self.fabric_to(device, &client.addresses);
    }

    fn fabric_to(&mut self, device: &str, addresses: &[IpAddr]) {
        self.gateway_device(device);
        self.add(format_args!("addr add {GATEWAY4}/32 dev {device}"));
        for address in addresses {
            self.add(format_args!("route add {address} dev {device}"));
        }
    }

    /// Adds the fabric's route to a pod whose address is outside its node's ranges.
    pub fn fabric_to_pod(&mut self, device: &str, pod: &Pod, node: &Node) {
        for address in strays(pod, node) {
            let via = node.address(address.is_ipv4()).expect("a node has an InternalIP for each family of its pods");
            self.add(format_args!("route replace {address} via {via} dev {device} onlink"));
        }
    }

    /// Removes the routes of [`Self::fabric_to_pod`].
    pub fn forget_pod(&mut self, pod: &Pod, node: &Node) {
        for address in strays(pod, node) {
            self.add(format_args!("route del {address}"));
        }
    }

    /// Adds the route of an address that no one holds to a node; an earlier one is replaced.
    pub fn fabric_route(&mut self, device: &str, route: &Route, node: &Node) {
        let via = node.address(route.to.is_ipv4()).map(|via| format!("via {via} dev {device} onlink"));
        let via = via.unwrap_or_else(|| format!("dev {device}"));
        self.add(format_args!("route replace {} {via}", route.to));
    }

    /// Adds the inside of a node, client or pod: its addresses on `eth0` and a default route for each family that it has.
    pub fn inside(&mut self, addresses: &[IpAddr]) {
        self.add(format_args!("link set eth0 up"));
        for address in addresses {
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            self.add(format_args!("addr add {address} dev eth0{nodad}"));
        }
        if addresses.iter().any(IpAddr::is_ipv4) {
            self.add(format_args!("route add default via {GATEWAY4} dev eth0 onlink"));
        }
        if addresses.iter().any(IpAddr::is_ipv6) {
            self.add(format_args!("route add ::/0 via {GATEWAY6} dev eth0 onlink"));
        }
    }

    /// Adds what a node does with addresses of its ranges that no pod has: without it they would go round with the router.
    pub fn node_ranges(&mut self, node: &Node) {
        for cidr in node.cidrs() {
            self.add(format_args!("route add unreachable {cidr}"));
        }
    }

    /// Adds the node's side of a pod: a device and a host route for each address.
    pub fn node_to_pod(&mut self, device: &str, pod: &Pod) {
        self.gateway_device(device);
        for address in &pod.addresses {
            self.add(format_args!("route add {address} dev {device}"));
        }
    }

    /// Removes a device and the routes through it.
    pub fn unlink(&mut self, device: &str) {
        self.add(format_args!("link del {device}"));
    }

    fn gateway_device(&mut self, device: &str) {
        self.add(format_args!("link set {device} up"));
        self.add(format_args!("addr add {GATEWAY6}/64 dev {device} nodad"));
    }
}

fn strays<'a>(pod: &'a Pod, node: &'a Node) -> impl Iterator<Item = &'a IpAddr> {
    let inside = |address: &IpAddr| node.cidrs().iter().any(|cidr: &Cidr| cidr.contains(address));
    pod.addresses.iter().filter(move |address| !pod.host_network && !inside(address))
}

/// Lets a node answer a pod's questions for its gateway, at once.
pub fn answer_for_gateway(node: &Path, devices: &[String]) -> Result<()> {
    netns::within(node, || {
        for device in devices {
            netns::set(&format!("net/ipv4/conf/{device}/proxy_arp"), "1")?;
            netns::set(&format!("net/ipv4/neigh/{device}/proxy_delay"), "0")?;
        }
        Ok(())
    })
}

/// Makes namespaces, a few at a time: most of the work waits for the kernel.
pub fn create_namespaces(names: &[(String, Role)]) -> Result<()> {
    let chunks = names.chunks(names.len().div_ceil(4).max(1));
    std::thread::scope(|scope| {
        let make = |chunk: &[(String, Role)]| chunk.iter().try_for_each(|(name, role)| netns::create(name, *role));
        let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || make(chunk))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("making a namespace does not panic"))
    })
}

/// Runs batches side by side, one process of `ip` each.
pub fn run(batches: Vec<Batch<'_>>) -> Result<()> {
    let started: Vec<(Batch<'_>, Child)> = batches
        .into_iter()
        .filter(|batch| !batch.commands.is_empty())
        .map(|batch| start(&batch).map(|child| (batch, child)))
        .collect::<Result<_>>()?;
    let mut first_error = None;
    for (batch, child) in started {
        if let Err(error) = finish(&batch, child) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn start(batch: &Batch<'_>) -> Result<Child> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    enter_namespace(&mut command, batch.namespace)?;
    let mut child = command.spawn().context("ip (of iproute2) cannot be started")?;
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A batch that ends early closes the pipe: what it says then is worth more than the broken pipe.
    let _ = stdin.write_all(batch.commands.as_bytes());
    Ok(child)
}

/// Waits for a batch; the complaint quotes the command, which `ip` gives by its line number only.
fn finish(batch: &Batch<'_>, child: Child) -> Result<()> {
    let output = child.wait_with_output().context("ip")?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let number = text.lines().find_map(|line| line.strip_prefix("Command failed -:")?.parse::<usize>().ok());
    let command = number.and_then(|number| batch.commands.lines().nth(number - 1)).unwrap_or("-batch");
    let name = batch.namespace.file_name().unwrap_or_default().to_string_lossy();
    bail!("{name}: ip {command}: {}", text.lines().next().unwrap_or("failed").trim())
}
