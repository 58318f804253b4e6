//! What is refused or broken, as a person reads it.

use serde::{Deserialize, Serialize};

/// One refusal or fault: an object that is not served, a map that is full, a port that is taken. It stands in
/// `lbctl status` while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of object it is about: `Service`, `EndpointSlice`, `Map`, `Listener`.
    pub kind: String,
    /// The object's name: `NS/NAME` where it has a namespace.
    pub object: String,
    /// The field at fault, as the object writes it (`spec.ports[0].port`); empty where there is none.
    pub field: String,
    /// What is wrong with it, and what follows, in one line.
    pub message: String,
}
