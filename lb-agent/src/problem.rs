//! What is wrong at the moment, for logs and `lbctl status`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;
use tracing::{info, warn};

/// One thing that is wrong, for as long as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// What sort of thing it is, one word in CamelCase.
    pub kind: &'static str,
    /// The object, as `KIND NAMESPACE/NAME`, or the file, map or device.
    pub object: String,
    /// The field by its path from the object's root; empty if it is about the whole.
    pub field: String,
    /// What is wrong with it, and what is done about it, in one line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind: _, object, field, message } = self;
        if field.is_empty() { write!(f, "{object}: {message}") } else { write!(f, "{object}: {field}: {message}") }
    }
}

/// The problems of every part of the agent. Each part states its whole set, so what is cured disappears by itself.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    by_part: BTreeMap<&'static str, BTreeSet<Problem>>,
}

impl Problems {
    /// Replaces the problems of one part; writes one warning line for each new one, and one line for each that is gone.
    /// True if that changed anything.
    pub fn set(&mut self, part: &'static str, problems: BTreeSet<Problem>) -> bool {
        let before = self.by_part.entry(part).or_default();
        for problem in problems.difference(before) {
            warn!(kind = problem.kind, "{problem}");
        }
        for problem in before.difference(&problems) {
            info!(kind = problem.kind, "solved: {problem}");
        }
        let changed = *before != problems;
        *before = problems;
        changed
    }

    /// All of them, sorted.
    pub fn all(&self) -> BTreeSet<&Problem> {
        self.by_part.values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(object: &str) -> Problem {
        Problem { kind: "Test", object: object.to_owned(), field: "spec.type".to_owned(), message: "is odd".to_owned() }
    }

    #[test]
    fn a_part_replaces_its_own_problems() {
        let mut problems = Problems::default();
        assert!(problems.set("source", [problem("a"), problem("b")].into()));
        assert!(problems.set("compile", [problem("b"), problem("c")].into()));
        assert!(!problems.set("compile", [problem("b"), problem("c")].into()), "nothing changed");
        assert!(problems.set("source", [problem("d")].into()));
        let objects: Vec<_> = problems.all().into_iter().map(|problem| problem.object.as_str()).collect();
        assert_eq!(objects, ["b", "c", "d"]);
        assert_eq!(problem("a").to_string(), "a: spec.type: is odd");
    }
}
