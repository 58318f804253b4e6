//! The lab's command; see `lb_tests::lab` for what it does and README.md for how it is used.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lb_tests::lab::{
    Lab, Options, Topology,
    agent::{AgentOptions, Proxy},
    client::{self, Protocol},
    object::Object,
    probe::{ProbeOptions, Query},
    server,
    state::{self, State},
    teardown,
};
use nix::sys::signal::{SigSet, Signal};

/// A cluster of network namespaces on one machine.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    /// The lab's name: several can stand side by side.
    #[arg(long = "lab", env = "LB_LAB", default_value = "lab", global = true)]
    name: String,
    #[command(subcommand)]
    command: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Brings a lab up and leaves it standing.
    Up(Up),
    /// Gives objects to the agents.
    Apply(Files),
    /// Takes objects from the agents.
    Delete(Files),
    /// Runs a command in a pod (NS/POD), on a node, in a client, or on the router (fabric).
    Exec(Exec),
    /// Answers queries by real connections: one JSON query a line in, one JSON answer a line out.
    Probe(Probe),
    /// Starts or ends a node's agent.
    Agent(Agent),
    /// Shows what stands, as JSON.
    Status,
    /// Takes the lab down, and what earlier runs left when they were cut short.
    Down,
    /// Opens sockets where it runs: one JSON request a line in, one JSON reply a line out.
    Client,
    /// Makes connections from where it runs, and prints how often which server answered.
    Dial(Dial),
    /// Keeps one connection in use from where it runs, and prints how it fared; exit status 1 when it failed.
    Hold(Hold),
    /// Is a pod's server.
    #[command(hide = true)]
    Serve {
        /// What it serves, JSON.
        spec: String,
    },
    /// Takes a half-made lab down after a signal.
    #[command(hide = true)]
    Abort {
        /// The lab's id.
        id: String,
        /// The exit status to end with.
        status: u8,
    },
    /// Takes a lab down when standard input ends.
    #[command(hide = true)]
    Guard {
        /// The lab's id.
        id: String,
    },
}

#[derive(Args)]
struct Up {
    /// The topology; without one, two nodes with a few pods.
    topology: Option<PathBuf>,
    /// What carries Services: lb-agent, none, kube-proxy-nftables or kube-proxy-iptables.
    #[arg(long, default_value = "lb-agent", value_parser = proxy)]
    proxy: Proxy,
    /// A file for each agent's --config.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Files {
    /// A file of manifests; `-` is standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct Exec {
    /// The pod (NS/POD), node or client.
    place: String,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Args)]
struct Probe {
    /// The file of queries, as `lbctl explain` takes them; `-` is standard input.
    #[arg(long)]
    queries: PathBuf,
    /// Tries for each query; by default 20 for each endpoint that could answer.
    #[arg(long)]
    tries: Option<u32>,
    /// The node that `node` means in a query; the first one by default.
    #[arg(long)]
    node: Option<String>,
}

#[derive(Args)]
struct Endpoint {
    /// ADDRESS:PORT, IPv6 in brackets.
    to: SocketAddr,
    /// Datagrams, in place of HTTP over TCP.
    #[arg(long)]
    udp: bool,
    /// The HTTP method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// The HTTP path.
    #[arg(long, default_value = "/")]
    path: String,
    /// How long connecting or an answer may take, in milliseconds.
    #[arg(long, default_value_t = client::timeout_ms())]
    timeout_ms: u64,
}

#[derive(Args)]
struct Dial {
    #[command(flatten)]
    endpoint: Endpoint,
    /// How many connections.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// How many at the same time.
    #[arg(long, default_value_t = 1)]
    parallel: u32,
}

#[derive(Args)]
struct Hold {
    #[command(flatten)]
    endpoint: Endpoint,
    /// For how long, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    for_ms: u64,
    /// The time between two uses, in milliseconds.
    #[arg(long, default_value_t = 100)]
    every_ms: u64,
}

#[derive(Args)]
struct Agent {
    /// What is done: start, stop (SIGTERM) or kill (SIGKILL).
    #[arg(value_parser = ["start", "stop", "kill"])]
    action: String,
    /// The node.
    node: String,
}

fn proxy(text: &str) -> Result<Proxy, String> {
    match text {
        "lb-agent" => Ok(Proxy::LbAgent),
        "none" => Ok(Proxy::None),
        "kube-proxy-nftables" | "kube-proxy-iptables" => {
            Err("kube-proxy in the lab comes with the test cluster: it needs an API server".to_owned())
        }
        _ => Err("is none of lb-agent, none, kube-proxy-nftables, kube-proxy-iptables".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let name = cli.name;
    match cli.command {
        Word::Up(arguments) => up(&name, &arguments)?,
        Word::Apply(files) => standing(&name)?.apply(read_all(&files.files)?)?,
        Word::Delete(files) => standing(&name)?.delete(&read_all(&files.files)?)?,
        Word::Exec(arguments) => {
            let (program, rest) = arguments.command.split_first().context("there is no command")?;
            let error = standing(&name)?.command(&arguments.place, program)?.args(rest).exec();
            // As a shell has it: 127 for what is not there, 126 for what cannot be run.
            eprintln!("lab: {program}: {error}");
            return Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
        Word::Probe(arguments) => probe(&standing(&name)?, &arguments)?,
        Word::Dial(arguments) => print!("{}", tally(&arguments.endpoint.dial(arguments.times, arguments.parallel))),
        Word::Hold(arguments) => {
            let reply = client::hold(
                &arguments.endpoint.dial(1, 1),
                Duration::from_millis(arguments.every_ms),
                Duration::from_millis(arguments.for_ms),
            );
            let (uses, who) = (reply.uses.unwrap_or(0), reply.pod().unwrap_or("no one"));
            println!("{uses} uses answered by {who}, longest wait {} ms, {}", reply.ms, reply.outcome());
            return Ok(if reply.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Word::Agent(arguments) => {
            let mut lab = standing(&name)?;
            match arguments.action.as_str() {
                "start" => lab.start_agent(&arguments.node)?,
                "stop" => lab.end_agent(&arguments.node, Signal::SIGTERM)?,
                _ => lab.end_agent(&arguments.node, Signal::SIGKILL)?,
            }
        }
        Word::Status => println!("{}", serde_json::to_string_pretty(standing(&name)?.state())?),
        Word::Down => {
            for id in state::ids_of(&name) {
                teardown::tear_down(&id)?;
            }
            teardown::sweep()?;
        }
        Word::Client => client::work(std::io::stdin().lock(), std::io::stdout().lock())?,
        Word::Serve { spec } => server::serve(serde_json::from_str(&spec).context("the server's specification")?)?,
        Word::Abort { id, status } => {
            teardown::tear_down(&id)?;
            return Ok(ExitCode::from(status));
        }
        Word::Guard { id } => teardown::guard(&id)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &str, arguments: &Up) -> Result<()> {
    let topology = match &arguments.topology {
        Some(path) => Topology::load(path)?,
        None => Topology::parse(lb_tests::lab::topology::DEFAULT)?,
    };
    if let Some(state) = State::find(name)?
        && state.owner.is_none_or(|owner| owner.is_alive())
    {
        bail!("the lab `{name}` is up already ({}): `lab down` first, or choose another name by --lab", state.id);
    }
    let config = arguments.config.as_deref().map(fs::read_to_string).transpose();
    let config = config.with_context(|| arguments.config.as_deref().unwrap_or(Path::new("")).display().to_string())?;
    let options = Options {
        proxy: arguments.proxy,
        name: Some(name.to_owned()),
        agent: AgentOptions { config, ..AgentOptions::default() },
        ..Options::default()
    };
    take_down_on_signals()?;
    let lab = Lab::up(&topology, &options)?;
    for name in lab.state().names() {
        println!("{name}");
    }
    lab.detach()
}

fn probe(lab: &Lab, arguments: &Probe) -> Result<()> {
    let text = read(&arguments.queries)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let queries: Vec<Result<Query, String>> =
        lines.map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect();
    let options = ProbeOptions { tries: arguments.tries, node: arguments.node.clone() };
    let mut stdout = std::io::stdout().lock();
    lab.probe_all(&queries, &options, |answer| {
        writeln!(stdout, "{}", serde_json::to_string(&answer)?).context("standard output")
    })
}

impl Endpoint {
    fn dial(&self, times: u32, parallel: u32) -> client::Dial {
        let proto = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        let (timeout_ms, http) = (self.timeout_ms, client::Http::new(&self.method, &self.path));
        client::Dial { parallel, timeout_ms, http, ..client::Dial::new(self.to, proto, times) }
    }
}

/// Dials, and returns a line for each server and for each failure, the most frequent first.
fn tally(dial: &client::Dial) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for reply in client::dial(dial) {
        let who = reply.answer.as_ref().map(|answer| format!("{} {}", answer.name, answer.address));
        *counts.entry(who.unwrap_or_else(|| reply.outcome().to_owned())).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.into_iter().map(|(who, count)| format!("{count:>6} {who}\n")).collect()
}

/// Ends this process at SIGINT and SIGTERM by way of the lab's removal.
fn take_down_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("signals")?;
    std::thread::spawn(move || {
        let signal = signals.wait().expect("the set holds valid signals");
        // The process ends here, and its lab becomes one whose process is gone.
        eprintln!("lab: {signal}: taking down what is up");
        let program = std::env::current_exe().expect("/proc is mounted");
        let id = format!("{}-{}-0", state::PREFIX, std::process::id());
        let status = (128 + signal as i32).to_string();
        let error = std::process::Command::new(program).args(["abort", &id, &status]).exec();
        eprintln!("lab: {error}");
        std::process::exit(1);
    });
    Ok(())
}

fn standing(name: &str) -> Result<Lab> {
    Lab::open(name)?.with_context(|| format!("there is no lab `{name}`: `lab up` makes one"))
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for path in files {
        objects.extend(Object::parse_all(&read(path)?).with_context(|| path.display().to_string())?);
    }
    Ok(objects)
}

fn read(path: &Path) -> Result<String> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(path) };
    text.with_context(|| path.display().to_string())
}
