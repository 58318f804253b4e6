//! Processes by identity: a process id together with the time at which the process started, since ids come round again.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// One process of this machine, not merely one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl Process {
    /// Returns the process that has this id at the moment.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        Some(Self { pid, started: Stat::read(pid)?.started })
    }

    /// Returns the calling process.
    pub fn this() -> Self {
        Self::of(std::process::id()).expect("/proc is mounted and holds the calling process")
    }

    /// Returns whether it still runs; one that only waits to be reaped does not. A first thread that has ended waits for
    /// the others, which hold the process's files until then.
    pub fn is_alive(&self) -> bool {
        let threads = || fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count);
        Stat::read(self.pid)
            .is_some_and(|stat| stat.started == self.started && (!matches!(stat.state, 'Z' | 'X') || threads() > 1))
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => bail!("process {}: {signal}: {errno}", self.pid),
        }
    }

    /// Waits until it has ended.
    pub fn wait_gone(&self, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > timeout {
                bail!("process {} still runs after {timeout:?}", self.pid);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `PID (NAME) STATE …`; the name may hold blanks and brackets, so counting starts behind its last one.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { state, started: fields.nth(18)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_with_brackets() {
        let text = "7 (a) b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(text).expect("is well-formed");
        assert_eq!((stat.state, stat.started), ('S', 4711));
    }

    #[test]
    fn another_start_is_another_process() {
        let this = Process::this();
        assert!(this.is_alive());
        assert!(!Process { started: this.started + 1, ..this }.is_alive());
    }
}
