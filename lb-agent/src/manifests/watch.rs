//! Scans when something happens in the directory, and now and then in case that was missed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use super::ManifestSource;
use crate::{problem::Problem, source::Update};

/// How soon and how often the directory is scanned.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Files are read when nothing happened for this long, so that a set of files is read as a whole.
    quiet: Duration,
    /// After this long they are read though things go on happening.
    patience: Duration,
    /// The directory is looked at this often though nothing happens: links lead elsewhere, and a directory that comes
    /// back tells nobody.
    poll: Duration,
}

const PACE: Pace =
    Pace { quiet: Duration::from_millis(50), patience: Duration::from_secs(1), poll: Duration::from_secs(2) };

/// A look at the directory where nothing changed takes at most this part of the time, however many files there are.
const POLL_SHARE: u32 = 20;

/// Watches a directory and sends what changes, until nobody receives. The first update is sent whatever it holds.
pub async fn watch(dir: PathBuf, updates: mpsc::Sender<Update>) {
    run(dir, updates, PACE).await;
}

async fn run(dir: PathBuf, updates: mpsc::Sender<Update>, pace: Pace) {
    let mut alarm = Alarm::default();
    let mut source = ManifestSource::new(dir);
    let mut sent: Option<BTreeSet<Problem>> = None;
    loop {
        let scan = spawn_blocking(move || {
            // Set before the scan: what changes after it rings.
            let failure = alarm.set(source.dir());
            let started = Instant::now();
            let mut update = source.scan();
            let took = started.elapsed();
            update.problems.extend(failure);
            (alarm, source, update, took)
        });
        let (update, took);
        (alarm, source, update, took) = scan.await.expect("a scan does not panic");
        let is_idle = update.events.is_empty();
        if !is_idle || sent.as_ref() != Some(&update.problems) {
            sent = Some(update.problems.clone());
            if updates.send(update).await.is_err() {
                return;
            }
        }
        let poll = if is_idle { pace.poll.max(took * POLL_SHARE) } else { pace.poll };
        tokio::select! {
            () = updates.closed() => return,
            _ = timeout(poll, alarm.rung()) => {}
        }
        settle(&alarm, pace).await;
    }
}

/// Waits until nothing happens any more.
async fn settle(alarm: &Alarm, pace: Pace) {
    let started = Instant::now();
    while started.elapsed() < pace.patience && timeout(pace.quiet, alarm.rung()).await.is_ok() {}
}

/// Rings when something in the directory changes.
#[derive(Default)]
struct Alarm {
    bell: Arc<Notify>,
    /// The watcher, and the directory that it is set on by device and inode: a path can come to lead to another one.
    watching: Option<((u64, u64), RecommendedWatcher)>,
}

impl Alarm {
    async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Sets the alarm on the directory that is there. A directory that is not there is for the scan to report.
    fn set(&mut self, dir: &Path) -> Option<Problem> {
        let place = fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if self.watching.as_ref().map(|(place, _)| *place) == place {
            return None;
        }
        self.watching = None;
        let place = place?;
        let bell = Arc::clone(&self.bell);
        let ring = move |event: notify::Result<notify::Event>| {
            // A lost event and an overflow ring too.
            if event.is_ok_and(|event| is_our_own(&event.kind)) {
                return;
            }
            bell.notify_one();
        };
        let watcher = notify::recommended_watcher(ring).and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.watching = Some((place, watcher));
                None
            }
            Err(error) => Some(Problem {
                kind: "NoFileEvents",
                object: dir.display().to_string(),
                field: String::new(),
                message: format!("cannot be watched: {error}; it is looked at every {} s", PACE.poll.as_secs()),
            }),
        }
    }
}

/// True for what reading a file makes happen.
fn is_our_own(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;

    const NEVER: Duration = Duration::from_secs(3600);

    fn service(name: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}\n"
        )
    }

    async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
        let update = timeout(Duration::from_secs(60), updates.recv()).await.expect("an update comes");
        update.expect("the watch goes on")
    }

    fn shown(update: &Update) -> Vec<String> {
        let one = |event: &Event| match event {
            Event::Apply(object) => format!("apply {}", object.reference()),
            Event::Delete(reference) => format!("delete {reference}"),
            Event::Reset(objects) => format!("reset {}", objects.len()),
        };
        update.events.iter().map(one).chain(update.problems.iter().map(|p| p.kind.to_owned())).collect()
    }

    #[tokio::test]
    async fn changes_are_seen_as_they_happen() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), service("a")).unwrap();
        let (sender, mut updates) = mpsc::channel(1);
        let pace = Pace { poll: NEVER, ..PACE };
        let running = tokio::spawn(run(dir.path().to_owned(), sender, pace));
        assert_eq!(shown(&next(&mut updates).await), ["reset 1"]);
        fs::write(dir.path().join("b.yaml"), service("b")).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["apply Service default/b"]);
        fs::write(dir.path().join("c"), service("c")).unwrap();
        fs::rename(dir.path().join("c"), dir.path().join("a.yaml")).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["delete Service default/a", "apply Service default/c"]);
        fs::remove_file(dir.path().join("b.yaml")).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["delete Service default/b"]);
        drop(updates);
        timeout(Duration::from_secs(60), running).await.expect("the watch ends").unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_vanishes_and_returns_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("manifests");
        let (sender, mut updates) = mpsc::channel(1);
        let pace = Pace { poll: Duration::from_millis(100), ..PACE };
        tokio::spawn(run(dir.clone(), sender, pace));
        assert_eq!(shown(&next(&mut updates).await), ["NoManifests"], "nothing is reset by what is not there");

        let away = parent.path().join("away");
        fs::create_dir(&away).unwrap();
        fs::write(away.join("a.yaml"), service("a")).unwrap();
        fs::rename(&away, &dir).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["reset 1"]);
        fs::rename(&dir, &away).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["NoManifests"]);
        fs::write(away.join("b.yaml"), service("b")).unwrap();
        fs::rename(&away, &dir).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["apply Service default/b"]);
        fs::remove_file(dir.join("a.yaml")).unwrap();
        assert_eq!(shown(&next(&mut updates).await), ["delete Service default/a"]);
    }

    #[tokio::test]
    async fn files_that_are_written_together_are_read_together() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut updates) = mpsc::channel(1);
        let pace = Pace { quiet: Duration::from_millis(500), patience: NEVER, poll: NEVER };
        tokio::spawn(run(dir.path().to_owned(), sender, pace));
        assert_eq!(shown(&next(&mut updates).await), ["reset 0"]);
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join(format!("{name}.yaml")), service(name)).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let want = ["apply Service default/a", "apply Service default/b", "apply Service default/c"];
        assert_eq!(shown(&next(&mut updates).await), want);
    }
}
