//! What the hints of the ready endpoints ask for.

use super::{Here, merge::Merged};

/// How far from this node connections should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preference {
    /// To the endpoints hinted for this node.
    SameNode,
    /// To the endpoints hinted for this zone.
    SameZone,
    /// Anywhere.
    Anywhere,
}

/// Decides from all ready endpoints. One that lacks a hint turns hints of that kind off, and so do hints of which none
/// means this place: following them would overload or blackhole (KEP-2433).
pub(super) fn preference(ready: &[&Merged<'_>], here: &Here<'_>) -> Preference {
    for (preference, all_hinted) in [
        (Preference::SameNode, ready.iter().all(|endpoint| !endpoint.endpoint.node_hints.is_empty())),
        (Preference::SameZone, ready.iter().all(|endpoint| !endpoint.endpoint.zone_hints.is_empty())),
    ] {
        if all_hinted && ready.iter().any(|endpoint| preference.admits(endpoint, here)) {
            return preference;
        }
    }
    Preference::Anywhere
}

impl Preference {
    /// True if the endpoint lies within this preference.
    pub(super) fn admits(self, merged: &Merged<'_>, here: &Here<'_>) -> bool {
        match self {
            Self::SameNode => merged.endpoint.node_hints.contains(here.node),
            Self::SameZone => here.zone.is_some_and(|zone| merged.endpoint.zone_hints.contains(zone)),
            Self::Anywhere => true,
        }
    }
}
