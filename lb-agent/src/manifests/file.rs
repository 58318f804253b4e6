//! One file of the directory.

use std::{
    fs::{self, Metadata},
    hash::{DefaultHasher, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::document::{self, Document, Format, MAX_BYTES};
use crate::{
    k8s::{
        Converted, Refusal,
        object::{self, Identity},
    },
    model::{Event, Object, ObjectRef},
    problem::Problem,
};

/// A file that changed less than this ago may change again without a trace: file times follow the timer tick.
const SETTLES_AFTER: Duration = Duration::from_millis(50);

/// A file, and what it held when it was last read well.
#[derive(Debug, Default)]
pub(super) struct File {
    /// The version that was read; `None` makes the next scan read again.
    stamp: Option<Stamp>,
    /// Of the text that was read well.
    digest: Option<u64>,
    /// What the file held.
    pub(super) contents: Contents,
    /// Why the file as it is cannot be used.
    pub(super) broken: Option<Problem>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The objects, in the file's order.
    pub(super) declared: Vec<Declared>,
    /// What is wrong with single objects, or values of them.
    pub(super) problems: Vec<Problem>,
}

/// An object that a file holds.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) reference: ObjectRef,
    pub(super) line: usize,
    pub(super) state: State,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It is valid.
    Valid(Arc<Object>),
    /// It is valid, and no business of this agent.
    NotOurs,
    /// It is not valid.
    Refused,
}

impl File {
    /// Reads the file if it is not the version that was read last; true if its objects or problems may differ then.
    pub(super) fn refresh(&mut self, path: &Path, format: Format) -> bool {
        match self.read(path, format) {
            Ok(None) => false,
            Ok(Some(contents)) => {
                (self.contents, self.broken) = (contents, None);
                true
            }
            Err(message) => {
                let object = path.display().to_string();
                let message = format!("{message}; what it held before stays");
                let broken = Problem { kind: "BrokenManifest", object, field: String::new(), message };
                self.broken.replace(broken.clone()) != Some(broken)
            }
        }
    }

    /// Reads and parses; `None` if that would give what it gave before.
    fn read(&mut self, path: &Path, format: Format) -> Result<Option<Contents>, String> {
        let now = SystemTime::now();
        let before = self.stamp.take();
        let metadata = path.metadata().map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            return Err("is no regular file".to_owned());
        }
        if metadata.len() > MAX_BYTES {
            return Err(too_large());
        }
        let stamp = Stamp::of(&metadata);
        if before == Some(stamp) {
            self.stamp = before;
            return Ok(None);
        }
        let bytes = read_bounded(path).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_large());
        }
        self.stamp = stamp.is_settled(now).then_some(stamp);
        let digest = digest(&bytes);
        if self.digest == Some(digest) && self.broken.is_none() {
            return Ok(None);
        }
        let text = str::from_utf8(&bytes).map_err(|error| format!("is not text in UTF-8: {error}"))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let mut contents = Contents::default();
        document::parse(text, format, &mut |document| contents.declare(&document, &file))
            .map_err(|error| format!("cannot be parsed: {error}"))?;
        self.digest = Some(digest);
        Ok(Some(contents))
    }
}

impl Contents {
    fn declare(&mut self, document: &Document, file: &str) {
        let Document { line, value } = document;
        let mut report = |kind, refusal: Refusal| {
            let Refusal { object, field, message } = refusal;
            let message = format!("{message} ({file}:{line})");
            self.problems.push(Problem { kind, object, field, message });
        };
        let reference = match object::identify(value) {
            Ok(Identity::Known(reference)) => reference,
            Ok(Identity::Foreign) => return,
            Err(refusal) => return report("RefusedObject", refusal),
        };
        let state = match object::convert(&reference, value) {
            Ok(Converted { event, warnings }) => {
                warnings.into_iter().for_each(|warning| report("SkippedValue", warning));
                match event {
                    Event::Apply(object) => State::Valid(Arc::new(object)),
                    Event::Delete(_) | Event::Reset(_) => State::NotOurs,
                }
            }
            Err(refusal) => {
                report("RefusedObject", refusal);
                State::Refused
            }
        };
        self.declared.push(Declared { reference, line: *line, state });
    }
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// True if a later change is sure to give another stamp.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since_1970 = |n: i64, unit: fn(u64) -> Duration| u64::try_from(n).map(unit).unwrap_or_default();
        let changed =
            UNIX_EPOCH + since_1970(seconds, Duration::from_secs) + since_1970(nanoseconds, Duration::from_nanos);
        now.duration_since(changed).is_ok_and(|age| age > SETTLES_AFTER)
    }
}

/// Reads a file, and stops one byte beyond what a file may hold.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large() -> String {
    format!("is larger than {} MiB", MAX_BYTES >> 20)
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
