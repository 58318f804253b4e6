//! The problems that stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::problem::Problem;

/// Collects the problems of every part of the agent. A problem is one warning line when it comes and one line of
/// information when it goes, however often it is reported in between.
#[derive(Clone, Debug, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<&'static str, BTreeSet<Problem>>>>);

impl Problems {
    /// Replaces what `part` complains of by `now`, which is everything that is wrong in its eyes.
    pub fn set(&self, part: &'static str, now: BTreeSet<Problem>) {
        let before = {
            let mut parts = self.lock();
            if now.is_empty() { parts.remove(part) } else { parts.insert(part, now.clone()) }
        };
        let before = before.unwrap_or_default();
        for problem in raised(&before, &now) {
            let Problem { kind, object, field, message } = problem;
            tracing::warn!(kind, object, field, "{message}");
        }
        for problem in cured(&before, &now) {
            let Problem { kind, object, field, message } = problem;
            tracing::info!(kind, object, field, "cured: {message}");
        }
    }

    /// Returns every problem that stands, sorted; what two parts report alike is there once.
    pub fn all(&self) -> Vec<Problem> {
        let all: BTreeSet<_> = self.lock().values().flatten().cloned().collect();
        all.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, BTreeSet<Problem>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raised<'a>(before: &'a BTreeSet<Problem>, now: &'a BTreeSet<Problem>) -> impl Iterator<Item = &'a Problem> {
    now.difference(before)
}

/// A problem whose message changed is another problem of the same field: nothing is cured.
fn cured<'a>(before: &'a BTreeSet<Problem>, now: &'a BTreeSet<Problem>) -> impl Iterator<Item = &'a Problem> {
    let place = |problem: &'a Problem| (&problem.kind, &problem.object, &problem.field);
    let places: BTreeSet<_> = now.iter().map(place).collect();
    before.iter().filter(move |problem| !places.contains(&place(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(field: &str, message: &str) -> Problem {
        Problem { kind: "Service", object: "a/b".into(), field: field.into(), message: message.into() }
    }

    #[test]
    fn once_while_it_lasts() {
        let set = |problems: &[(&str, &str)]| -> BTreeSet<_> { problems.iter().map(|(f, m)| problem(f, m)).collect() };
        for (name, before, now, want_raised, want_cured) in [
            ("new", set(&[]), set(&[("p", "x")]), vec!["x"], vec![]),
            ("stands", set(&[("p", "x")]), set(&[("p", "x")]), vec![], vec![]),
            ("gone", set(&[("p", "x"), ("q", "y")]), set(&[("q", "y")]), vec![], vec!["x"]),
            ("another message for the same field", set(&[("p", "x")]), set(&[("p", "z")]), vec!["z"], vec![]),
        ] {
            let messages = |problems: Vec<&Problem>| problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>();
            assert_eq!(messages(raised(&before, &now).collect()), want_raised, "{name}");
            assert_eq!(messages(cured(&before, &now).collect()), want_cured, "{name}");
        }
    }

    #[test]
    fn parts_keep_their_own() {
        let problems = Problems::default();
        problems.set("source", BTreeSet::from([problem("p", "x")]));
        problems.set("maps", BTreeSet::from([problem("p", "x"), problem("a", "full")]));
        assert_eq!(problems.all(), [problem("a", "full"), problem("p", "x")]);
        problems.set("maps", BTreeSet::new());
        assert_eq!(problems.all(), [problem("p", "x")]);
        problems.set("source", BTreeSet::new());
        assert_eq!(problems.all(), []);
    }
}
