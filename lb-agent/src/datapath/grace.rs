//! Waiting until no program that runs at the moment runs any more.

use std::time::Duration;

use super::sys;

/// Where the kernel cannot say when programs have ended (nohz_full), they are given so long: none runs for a
/// millionth of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for a grace period.
pub fn wait() {
    if !sys::wait_for_programs() {
        std::thread::sleep(PATIENCE);
    }
}
