//! Manifests in, map dump out: `tests/golden/NAME.yaml` and `NAME.maps` of the repository.
//!
//! A scenario is a stream of YAML documents: one `kind: Scenario` (node, devices, configuration), then steps, each
//! opened by a `kind: Step` (name, and perhaps deletions and other devices) and followed by ordinary objects. After
//! each step the golden file has what the maps hold and what is reported. Every scenario runs with the objects of a
//! step in both orders of arrival, on a store that fails one write in ten, and over a restart: the dump is the same.
//!
//! `GOLDEN=write cargo test -p lb-agent --test golden` writes the files anew.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use lb_agent::{
    config::Config,
    desired::{
        Settings,
        facts::{Facts, LocalAddress},
    },
    dump::Dump,
    k8s::object::{Identity, convert, identify},
    maps::{MapStore, faulty::FaultyStore, memory::MemoryStore},
    model::{Event, Kind, Model, Name, ObjectRef},
    reconcile::{Backoff, PATIENCE, Reconciler},
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, tag = "kind")]
enum Document {
    Scenario {
        #[serde(default)]
        node: String,
        #[serde(default)]
        devices: BTreeMap<String, Vec<IpAddr>>,
        #[serde(default)]
        config: Value,
    },
    Step {
        name: String,
        /// As `KIND NAMESPACE/NAME`.
        #[serde(default)]
        delete: Vec<String>,
        #[serde(default)]
        devices: Option<BTreeMap<String, Vec<IpAddr>>>,
    },
}

struct Scenario {
    node: String,
    devices: BTreeMap<String, Vec<IpAddr>>,
    settings: Settings,
    steps: Vec<Step>,
}

struct Step {
    name: String,
    devices: Option<BTreeMap<String, Vec<IpAddr>>>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    AsWritten,
    Backwards,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn parse(text: &str) -> Scenario {
    let mut scenario: Option<Scenario> = None;
    for value in serde_saphyr::from_multiple::<Value>(text).unwrap() {
        if matches!(value["kind"].as_str(), Some("Scenario" | "Step")) {
            match (serde_json::from_value(value).unwrap(), &mut scenario) {
                (Document::Scenario { node, devices, config }, None) => {
                    let config =
                        if config.is_null() { Config::default() } else { Config::parse(&config.to_string()).unwrap() };
                    scenario = Some(Scenario { node, devices, settings: Settings::from(&config), steps: Vec::new() });
                }
                (Document::Step { name, delete, devices }, Some(scenario)) => {
                    let events = delete.iter().map(|object| Event::Delete(reference(object))).collect();
                    scenario.steps.push(Step { name, devices, events });
                }
                (Document::Scenario { .. }, Some(_)) => panic!("a second Scenario"),
                (Document::Step { .. }, None) => panic!("a Step before the Scenario"),
            }
            continue;
        }
        let Identity::Known(object) = identify(&value).unwrap() else { panic!("{value} is no object of the model") };
        let converted = convert(&object, &value).unwrap();
        assert_eq!(converted.warnings, []);
        scenario.as_mut().unwrap().steps.last_mut().expect("a Step opens").events.push(converted.event);
    }
    scenario.unwrap()
}

fn reference(text: &str) -> ObjectRef {
    let (kind, name) = text.split_once(' ').unwrap();
    let (namespace, name) = name.split_once('/').unwrap();
    let kind = [Kind::Service, Kind::EndpointSlice].into_iter().find(|known| known.name() == kind).unwrap();
    ObjectRef { kind, name: Name::new(namespace, name) }
}

struct Agent<S> {
    model: Model,
    facts: Facts,
    reconciler: Reconciler<S>,
    now: Duration,
}

impl<S: MapStore> Agent<S> {
    fn start(scenario: &Scenario, store: S) -> Self {
        let mut reconciler = Reconciler::new(store, scenario.settings.clone(), Backoff::default()).unwrap();
        reconciler.synced();
        Self { model: Model::default(), facts: Facts::default(), reconciler, now: Duration::ZERO }
    }

    fn happen(&mut self, event: Event) {
        let changes = self.model.apply(event);
        self.reconciler.event(changes);
    }

    fn look_around(&mut self, scenario: &Scenario, devices: &BTreeMap<String, Vec<IpAddr>>) {
        let local = devices.iter().flat_map(|(device, addresses)| {
            addresses.iter().map(|address| LocalAddress { address: *address, device: device.clone() })
        });
        self.facts = Facts::new(&self.model, &scenario.node, local.collect());
    }

    /// Steps until nothing is left to do; returns how many writes were planned.
    fn settle(&mut self) -> usize {
        let mut planned = 0;
        for _ in 0..1000 {
            let outcome = self.reconciler.step(&self.model, &self.facts, self.now);
            planned += outcome.plan.len();
            let more = outcome.grace.is_some_and(|epoch| self.reconciler.passed(epoch));
            if outcome.failures.is_empty() && !more && !self.reconciler.has_work() {
                return planned;
            }
        }
        panic!("1000 steps were not enough");
    }

    /// Lives through a scenario; returns the golden text.
    fn live(&mut self, scenario: &Scenario, arrival: Arrival) -> String {
        let (mut text, mut devices) = (String::new(), &scenario.devices);
        for step in &scenario.steps {
            let mut events = step.events.clone();
            if arrival == Arrival::Backwards {
                events.reverse();
            }
            devices = step.devices.as_ref().unwrap_or(devices);
            self.look_around(scenario, devices);
            for event in events {
                self.happen(event);
                self.look_around(scenario, devices);
                self.reconciler.step(&self.model, &self.facts, self.now);
            }
            self.settle();
            // Slices wait for their Service this long before they are reported.
            self.now += PATIENCE;
            writeln!(text, "# {}\n{}", step.name, self.dump()).unwrap();
            for problem in self.reconciler.problems(self.now) {
                writeln!(text, "{}: {problem}\n", problem.kind).unwrap();
            }
        }
        text
    }

    fn dump(&self) -> String {
        let desired = self.reconciler.desired();
        let name = |id| desired.port_name(id).map(ToString::to_string);
        Dump { state: self.reconciler.held().state(), name, verbose: false }.text()
    }
}

fn check(path: &Path) {
    let called = path.file_stem().unwrap().to_str().unwrap();
    let scenario = parse(&fs::read_to_string(path).unwrap());
    let mut agent = Agent::start(&scenario, MemoryStore::new());
    let text = agent.live(&scenario, Arrival::AsWritten);

    let golden = path.with_extension("maps");
    if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        fs::write(&golden, &text).unwrap();
    }
    let want = fs::read_to_string(&golden).unwrap_or_default();
    assert!(text == want, "{called} differs from {}:\n{text}", golden.display());

    let text = Agent::start(&scenario, MemoryStore::new()).live(&scenario, Arrival::Backwards);
    assert_eq!(text, want, "{called}, objects in the other order");
    let mut failed = 0;
    for seed in 0..10 {
        let arrival = if seed % 2 == 0 { Arrival::AsWritten } else { Arrival::Backwards };
        let mut faulty = Agent::start(&scenario, FaultyStore::new(MemoryStore::new(), 100, seed));
        let text = faulty.live(&scenario, arrival);
        assert_eq!(text, want, "{called}, on a store that fails, {arrival:?}, seed {seed}");
        failed += faulty.reconciler.store().failed();
    }
    assert!(failed > 0, "{called}: no write failed");

    let mut restarted = Agent::start(&scenario, agent.reconciler.store().clone());
    restarted.model = agent.model.clone();
    restarted.facts = agent.facts.clone();
    assert_eq!(restarted.settle(), 0, "{called}: a restart writes nothing");
    assert_eq!(restarted.dump(), agent.dump(), "{called}, after a restart");
}

#[test]
fn scenarios() {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(paths.len() >= 16, "{} scenarios in {}", paths.len(), directory().display());
    paths.iter().for_each(|path| check(path));
}
