//! What a source of objects reports: the manifest directory, or the watchers of an API server.

use std::collections::BTreeSet;

use crate::{model::Event, problem::Problem};

/// One report of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What changed, in order. The first full list is one [`Event::Reset`], and nothing comes before it.
    pub events: Vec<Event>,
    /// Everything that is wrong with the source's objects at the moment, not only what is new.
    pub problems: BTreeSet<Problem>,
}
