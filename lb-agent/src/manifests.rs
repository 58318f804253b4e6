//! The embedded source: a directory of ordinary manifests, read as an API server would be.
//!
//! Each file with the ending `.yaml`, `.yml` or `.json` counts; subdirectories and names that start with a dot do not,
//! and links are followed, so that a mounted ConfigMap works. What cannot be read or is not valid is reported, and what
//! it held before stays: a mistake in a file never takes a Service away. Files are best replaced by renaming, since a
//! file that is half written may be valid.

mod document;
mod file;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::watch::watch;
use self::{
    document::Format,
    file::{Declared, File, State},
};
use crate::{
    k8s::endpoints::SERVICE_NAME,
    model::{Event, Kind, Object, ObjectRef},
    problem::Problem,
    source::Update,
};

/// A directory of manifests, and what was read from it.
#[derive(Debug)]
pub struct ManifestSource {
    dir: PathBuf,
    /// By name, which is the order in which they count.
    files: BTreeMap<PathBuf, File>,
    /// The objects that were reported; `None` before the first full list.
    reported: Option<BTreeMap<ObjectRef, Arc<Object>>>,
    /// What is wrong between and inside the files.
    problems: BTreeSet<Problem>,
}

impl ManifestSource {
    /// Names the directory; nothing is read yet.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, files: BTreeMap::new(), reported: None, problems: BTreeSet::new() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads what changed. The first scan that finds the directory yields one Reset with all objects, later ones what
    /// is different. A directory that cannot be listed is a problem, and changes nothing.
    pub fn scan(&mut self) -> Update {
        match list(&self.dir) {
            Ok(files) => self.follow(files),
            Err(error) => {
                let problem = Problem {
                    kind: "NoManifests",
                    object: self.dir.display().to_string(),
                    field: String::new(),
                    message: format!("cannot be listed: {error}; what was read before stays"),
                };
                let problems = self.problems.iter().cloned().chain([problem]).collect();
                Update { events: Vec::new(), problems }
            }
        }
    }

    fn follow(&mut self, listed: BTreeMap<PathBuf, Format>) -> Update {
        let files = self.files.len();
        self.files.retain(|path, _| listed.contains_key(path));
        let mut changed = self.reported.is_none() || self.files.len() != files;
        for (path, format) in listed {
            changed |= self.files.entry(path.clone()).or_default().refresh(&path, format);
        }
        let events = if changed { self.report() } else { Vec::new() };
        Update { events, problems: self.problems.clone() }
    }

    /// Works out which objects hold, and what that changes.
    fn report(&mut self) -> Vec<Event> {
        let problems_of = |file: &File| file.contents.problems.iter().chain(&file.broken).cloned().collect::<Vec<_>>();
        self.problems = self.files.values().flat_map(problems_of).collect();
        let winners = winners(&self.files, &mut self.problems);
        slices_without_service(&winners, &mut self.problems);

        let before = self.reported.take();
        let last_valid = |reference| before.as_ref().and_then(|before| before.get(reference)).cloned();
        let now: BTreeMap<ObjectRef, Arc<Object>> = winners
            .into_iter()
            .filter_map(|(reference, winner)| {
                let object = match &winner.declared.state {
                    State::Valid(object) => Some(Arc::clone(object)),
                    State::NotOurs => None,
                    State::Refused => last_valid(reference),
                };
                Some((reference.clone(), object?))
            })
            .collect();
        let events = match before {
            None => vec![Event::Reset(now.values().map(|object| Object::clone(object)).collect())],
            Some(before) => difference(&before, &now),
        };
        self.reported = Some(now);
        events
    }
}

/// The declaration of an object that holds.
struct Winner<'a> {
    file: &'a Path,
    declared: &'a Declared,
}

/// Finds the declaration that holds of each object: the first, by the file's name and then in the file.
fn winners<'a>(
    files: &'a BTreeMap<PathBuf, File>,
    problems: &mut BTreeSet<Problem>,
) -> BTreeMap<&'a ObjectRef, Winner<'a>> {
    let mut winners = BTreeMap::new();
    for (path, file) in files {
        for declared in &file.contents.declared {
            match winners.entry(&declared.reference) {
                btree_map::Entry::Vacant(entry) => {
                    entry.insert(Winner { file: path, declared });
                }
                btree_map::Entry::Occupied(entry) => {
                    let Winner { file, declared: winner } = entry.get();
                    problems.insert(Problem {
                        kind: "DuplicateObject",
                        object: declared.reference.to_string(),
                        field: "metadata.name".to_owned(),
                        message: format!(
                            "is in {}:{} already; {}:{} is left out",
                            name(file),
                            winner.line,
                            name(path),
                            declared.line
                        ),
                    });
                }
            }
        }
    }
    winners
}

/// Reports slices whose Service no file holds. Between objects of an API server that is an ordinary moment; here
/// somebody wrote a name that leads nowhere.
fn slices_without_service(winners: &BTreeMap<&ObjectRef, Winner<'_>>, problems: &mut BTreeSet<Problem>) {
    for (reference, winner) in winners {
        let State::Valid(object) = &winner.declared.state else { continue };
        let Object::EndpointSlice(slice) = &**object else { continue };
        let service = ObjectRef { kind: Kind::Service, name: slice.service.clone() };
        if !winners.contains_key(&service) {
            problems.insert(Problem {
                kind: "NoService",
                object: reference.to_string(),
                field: format!("metadata.labels[{SERVICE_NAME}]"),
                message: format!("{service} is in no file ({}:{})", name(winner.file), winner.declared.line),
            });
        }
    }
}

fn difference(before: &BTreeMap<ObjectRef, Arc<Object>>, now: &BTreeMap<ObjectRef, Arc<Object>>) -> Vec<Event> {
    let gone = before.keys().filter(|reference| !now.contains_key(reference)).cloned().map(Event::Delete);
    let differs = |(reference, object): &(&ObjectRef, &Arc<Object>)| before.get(*reference) != Some(*object);
    let applied = now.iter().filter(differs).map(|(_, object)| Event::Apply(Object::clone(object)));
    gone.chain(applied).collect()
}

/// Lists the manifests of a directory.
fn list(dir: &Path) -> io::Result<BTreeMap<PathBuf, Format>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let Some(format) = path.extension().and_then(format_of) else { continue };
        if !is_hidden && !path.is_dir() {
            files.insert(path, format);
        }
    }
    Ok(files)
}

fn format_of(extension: &OsStr) -> Option<Format> {
    match extension.as_encoded_bytes() {
        b"yaml" | b"yml" => Some(Format::Yaml),
        b"json" => Some(Format::Json),
        _ => None,
    }
}

fn name(path: &Path) -> impl std::fmt::Display + '_ {
    Path::new(path.file_name().unwrap_or_default()).display()
}

#[cfg(test)]
mod tests;
