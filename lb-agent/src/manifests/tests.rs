use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::model::{Model, Name};

/// A directory, the source that reads it and the model that follows it.
struct Rig {
    dir: TempDir,
    source: ManifestSource,
    model: Model,
    problems: BTreeSet<Problem>,
}

impl Rig {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = ManifestSource::new(dir.path().join("manifests"));
        fs::create_dir(source.dir()).unwrap();
        let mut rig = Self { dir, source, model: Model::default(), problems: BTreeSet::new() };
        files.iter().for_each(|(name, text)| rig.write(name, text));
        let events = rig.scan();
        assert!(matches!(events.as_slice(), [Event::Reset(_)]), "the first scan is one reset: {events:?}");
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.source.dir().join(name)
    }

    fn write(&mut self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn scan(&mut self) -> Vec<Event> {
        let Update { events, problems } = self.source.scan();
        for event in &events {
            assert!(
                !self.model.apply(event.clone()).is_empty() || matches!(event, Event::Reset(_)),
                "{event:?} is idle"
            );
        }
        self.problems = problems;
        events
    }

    fn has(&self, name: &str) -> bool {
        self.model.services.contains_key(&Name::new("default", name))
    }

    fn port(&self, name: &str) -> u16 {
        self.model.services[&Name::new("default", name)].ports[0].port
    }

    fn said(&self) -> Vec<String> {
        let dir = self.dir.path().display().to_string();
        self.problems.iter().map(|p| format!("{}: {p}", p.kind).replace(&dir, "DIR")).collect()
    }
}

fn service(name: &str, port: i64) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - port: {port}\n"
    )
}

fn slice(name: &str, service: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nendpoints: []\nports: []\n"
    )
}

#[test]
fn changes_are_events() {
    let two = format!("{}---\n{}", service("b", 80), service("c", 80));
    let mut rig =
        Rig::new(&[("a.yaml", &service("a", 80)), ("bc.yml", &two), ("README.md", "no manifest"), (".d.yaml", "{")]);
    assert!(rig.has("a") && rig.has("b") && rig.has("c"));
    assert_eq!(rig.said(), [""; 0]);
    assert_eq!(rig.scan(), [], "nothing changed");

    rig.write("bc.yml", format!("{}---\n{}", service("b", 81), service("c", 80)));
    let events = rig.scan();
    assert!(matches!(events.as_slice(), [Event::Apply(_)]), "only what differs: {events:?}");
    assert_eq!(rig.port("b"), 81);

    rig.write("bc.yml", service("b", 81));
    let events = rig.scan();
    assert!(
        matches!(events.as_slice(), [Event::Delete(gone)] if gone.to_string() == "Service default/c"),
        "{events:?}"
    );
    fs::remove_file(rig.path("a.yaml")).unwrap();
    rig.scan();
    assert!(!rig.has("a") && rig.has("b"));

    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}]}"#;
    rig.write("nodes.json", json);
    rig.scan();
    assert_eq!(rig.model.nodes.keys().collect::<Vec<_>>(), ["n1"]);
    assert_eq!(rig.said(), [""; 0], "a Deployment is nothing to a proxy");
}

#[test]
fn an_edit_within_one_tick_of_the_clock_is_seen() {
    let mut rig = Rig::new(&[("a.yaml", &service("a", 80))]);
    for port in 81..99 {
        rig.write("a.yaml", service("a", port));
        rig.scan();
        assert_eq!(i64::from(rig.port("a")), port, "the size is the same, the time may be");
    }
}

#[test]
fn what_goes_wrong_is_a_problem_while_it_lasts_and_takes_nothing_away() {
    let good = format!("{}---\n{}", service("a", 80), service("b", 80));
    type Break = fn(&mut Rig);
    // (name, how it breaks, what is said of it)
    let cases: [(&str, Break, &str); 10] = [
        (
            "malformed YAML",
            |rig| rig.write("web.yaml", "apiVersion: v1\n  kind: [Service\n"),
            "BrokenManifest: DIR/manifests/web.yaml: cannot be parsed: mapping values are not allowed in this context \
             at line 2, column 7; what it held before stays",
        ),
        (
            "not text",
            |rig| rig.write("web.yaml", b"a: \xff\xfe\n"),
            "BrokenManifest: DIR/manifests/web.yaml: is not text in UTF-8: ",
        ),
        (
            "too large",
            |rig| {
                fs::File::create(rig.path("web.yaml")).unwrap().set_len(document::MAX_BYTES + 1).unwrap();
            },
            "BrokenManifest: DIR/manifests/web.yaml: is larger than 64 MiB; what it held before stays",
        ),
        (
            "a link that leads nowhere",
            |rig| {
                fs::remove_file(rig.path("web.yaml")).unwrap();
                symlink("nowhere", rig.path("web.yaml")).unwrap();
            },
            "BrokenManifest: DIR/manifests/web.yaml: cannot be read: No such file or directory (os error 2); \
             what it held before stays",
        ),
        (
            "no regular file",
            |rig| {
                fs::remove_file(rig.path("web.yaml")).unwrap();
                nix::unistd::mkfifo(&rig.path("web.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            "BrokenManifest: DIR/manifests/web.yaml: is no regular file; what it held before stays",
        ),
        (
            "the directory vanishes",
            |rig| fs::rename(rig.source.dir(), rig.dir.path().join("away")).unwrap(),
            "NoManifests: DIR/manifests: cannot be listed: No such file or directory (os error 2); \
             what was read before stays",
        ),
        (
            "a port of 0",
            |rig| rig.write("web.yaml", format!("{}---\n{}", service("a", 80), service("b", 0))),
            "RefusedObject: Service default/b: spec.ports[0].port: 0 is outside 1 to 65535 (web.yaml:9)",
        ),
        (
            "a port of 70000",
            |rig| rig.write("web.yaml", format!("{}---\n{}", service("a", 70_000), service("b", 80))),
            "RefusedObject: Service default/a: spec.ports[0].port: 70000 is outside 1 to 65535 (web.yaml:1)",
        ),
        (
            "a kind that nobody knows",
            |rig| {
                let teapot = "apiVersion: v1\nkind: Teapot\nmetadata:\n  name: t\n";
                rig.write("web.yaml", format!("{}---\n{teapot}---\n{}", service("a", 80), service("b", 80)));
            },
            "RefusedObject: Teapot t: kind: v1 Teapot is a kind that this agent does not know (web.yaml:9)",
        ),
        (
            "a slice for no service",
            |rig| {
                let slice = slice("c-1", "c");
                rig.write("web.yaml", format!("{}---\n{}---\n{slice}", service("a", 80), service("b", 80)));
            },
            "NoService: EndpointSlice default/c-1: metadata.labels[kubernetes.io/service-name]: \
             Service default/c is in no file (web.yaml:18)",
        ),
    ];
    for (name, breaks, want) in cases {
        let mut rig = Rig::new(&[("web.yaml", &good)]);
        let model = rig.model.clone();
        breaks(&mut rig);
        rig.scan();
        let said = rig.said();
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        assert!(said[0].starts_with(want), "{name}: {said:?} does not start with {want}");
        assert_eq!(rig.model.services, model.services, "{name}");
        assert_eq!(rig.scan(), [], "{name}: nothing new");
        assert_eq!(rig.said(), said, "{name}: it lasts");

        let away = rig.dir.path().join("away");
        if away.exists() {
            fs::rename(away, rig.source.dir()).unwrap();
        }
        fs::remove_file(rig.path("web.yaml")).unwrap();
        rig.write("web.yaml", &good);
        rig.scan();
        assert_eq!(rig.said(), [""; 0], "{name}: it is cured");
        assert_eq!(rig.model, model, "{name}");
    }
}

#[test]
fn an_object_that_was_never_valid_is_not_there() {
    let text = format!("{}---\n{}", service("a", 0), service("b", 80));
    let mut rig = Rig::new(&[("web.yaml", &text), ("z.yaml", "[")]);
    assert!(!rig.has("a") && rig.has("b"));
    assert_eq!(rig.problems.len(), 2);
    rig.write("web.yaml", service("a", 80));
    rig.scan();
    assert!(rig.has("a") && !rig.has("b"));
}

#[test]
fn the_rest_of_a_kept_file_follows_when_it_is_cured() {
    let mut rig = Rig::new(&[("web.yaml", &service("a", 80))]);
    rig.write("web.yaml", "{");
    rig.scan();
    rig.write("web.yaml", service("b", 80));
    rig.scan();
    assert!(!rig.has("a") && rig.has("b"));
}

#[test]
fn the_first_declaration_of_an_object_holds() {
    let twice = format!("{}---\n{}", service("a", 80), service("a", 81));
    let mut rig = Rig::new(&[("1.yaml", &twice), ("2.yaml", &service("a", 82))]);
    assert_eq!(rig.port("a"), 80);
    assert_eq!(
        rig.said(),
        [
            "DuplicateObject: Service default/a: metadata.name: is in 1.yaml:1 already; 1.yaml:9 is left out",
            "DuplicateObject: Service default/a: metadata.name: is in 1.yaml:1 already; 2.yaml:1 is left out",
        ]
    );
    fs::remove_file(rig.path("1.yaml")).unwrap();
    rig.scan();
    assert_eq!((rig.port("a"), rig.said().len()), (82, 0));
    rig.write("0.yaml", service("a", 0));
    rig.scan();
    assert_eq!(rig.port("a"), 82, "the one that holds is not valid: the last valid version stays");
    assert_eq!(rig.said().len(), 2);
}

#[test]
fn a_label_that_comes_takes_the_service_away() {
    let mut rig = Rig::new(&[("a.yaml", &service("a", 80))]);
    let labelled = service("a", 80)
        .replace("  name: a\n", "  name: a\n  labels: {service.kubernetes.io/service-proxy-name: other}\n");
    rig.write("a.yaml", format!("{labelled}---\n{}", slice("a-1", "a")));
    rig.scan();
    assert!(!rig.has("a"));
    assert_eq!(rig.said(), [""; 0], "the slice has a Service, though not one of ours");
    rig.write("a.yaml", service("a", 80));
    rig.scan();
    assert!(rig.has("a"));
}

#[test]
fn a_mounted_config_map_is_followed() {
    let mut rig = Rig::new(&[]);
    let version = |rig: &Rig, name: &str, port| {
        fs::create_dir(rig.path(name)).unwrap();
        fs::write(rig.path(name).join("a.yaml"), service("a", port)).unwrap();
        symlink(name, rig.path("..data_tmp")).unwrap();
        fs::rename(rig.path("..data_tmp"), rig.path("..data")).unwrap();
    };
    version(&rig, "..2026_1", 80);
    symlink("..data/a.yaml", rig.path("a.yaml")).unwrap();
    rig.scan();
    assert_eq!(rig.port("a"), 80);
    version(&rig, "..2026_2", 81);
    fs::remove_dir_all(rig.path("..2026_1")).unwrap();
    rig.scan();
    assert_eq!((rig.port("a"), rig.said().len()), (81, 0));
}

#[test]
fn a_directory_that_is_not_there_resets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = ManifestSource::new(dir.path().join("manifests"));
    for _ in 0..2 {
        let Update { events, problems } = source.scan();
        assert_eq!((events.len(), problems.len()), (0, 1));
    }
    fs::write(dir.path().join("manifests"), "a file").unwrap();
    assert_eq!(source.scan().problems.len(), 1, "not a directory");
    fs::remove_file(dir.path().join("manifests")).unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    assert_eq!(source.scan(), Update { events: vec![Event::Reset(vec![])], problems: BTreeSet::new() });
}
