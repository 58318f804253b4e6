//! What the benchmarks share, and the measurements that need root.

pub mod figure;
pub mod node;
mod thread_time;

pub use thread_time::ThreadTime;
