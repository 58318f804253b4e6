//! Figures as `target/bench/latest.json` holds them.

use std::collections::BTreeMap;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its name, stable.
    pub name: String,
    /// ratio, ns, us, ms, bytes or count.
    pub unit: &'static str,
    /// The median of all rounds.
    pub ours: f64,
    /// The lowest round.
    pub low: f64,
    /// The highest round.
    pub high: f64,
    /// The same for others, measured in the same run.
    pub peers: BTreeMap<String, f64>,
    /// The command that measures it.
    pub how: &'static str,
}

impl Figure {
    /// Builds a figure from the values of its rounds.
    ///
    /// # Panics
    ///
    /// Without a single round.
    pub fn of(name: impl Into<String>, unit: &'static str, mut rounds: Vec<f64>, how: &'static str) -> Self {
        rounds.sort_by(f64::total_cmp);
        Self {
            name: name.into(),
            unit,
            ours: rounds[rounds.len() / 2],
            low: rounds[0],
            high: rounds[rounds.len() - 1],
            peers: BTreeMap::new(),
            how,
        }
    }

    /// Adds another's value.
    #[must_use]
    pub fn beside(mut self, peer: &str, value: f64) -> Self {
        self.peers.insert(peer.to_owned(), value);
        self
    }

    /// Prints it as a line of JSON.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("a figure is plain data"));
    }
}

/// The middle of some values.
///
/// # Panics
///
/// Without a value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
