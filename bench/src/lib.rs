//! What the benchmarks share.

mod thread_time;

pub use thread_time::ThreadTime;
