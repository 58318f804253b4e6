//! What a table is: the same as Cilium's, a matter of keys and weights alone, evenly shared, and slow to change.

mod backends;
mod known_answers;
mod rules;
mod spread;
