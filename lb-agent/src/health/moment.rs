//! Time as Go prints it.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

/// Go's zero time.
pub(super) const ZERO: &str = "0001-01-01 00:00:00 +0000 UTC";

/// A moment on both clocks: the wall's, and that which never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    unix: Duration,
    running: Duration,
}

impl Moment {
    /// Builds a moment: time since 1970, and since the process started.
    pub const fn new(unix: Duration, running: Duration) -> Self {
        Self { unix, running }
    }

    /// Reads the clocks. The first call counts as the start of the process.
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let running = START.get_or_init(Instant::now).elapsed();
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { unix, running }
    }

    /// How long after `earlier` this is.
    pub const fn since(self, earlier: Self) -> Duration {
        self.running.saturating_sub(earlier.running)
    }

    /// Whole seconds since 1970.
    pub const fn unix_seconds(self) -> u64 {
        self.unix.as_secs()
    }
}

/// Displays as Go's `time.Time.String` does, which is what kube-proxy puts into its bodies: in UTC, the fraction
/// without zeros at its end, then the running clock.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix.as_secs();
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
        if self.unix.subsec_nanos() != 0 {
            let fraction = format!("{:09}", self.unix.subsec_nanos());
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        write!(f, " +0000 UTC m=+{}.{:09}", self.running.as_secs(), self.running.subsec_nanos())
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar: years are counted from March,
/// so that a leap day ends its year, in eras of 400 years.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        for (name, unix, running, want) in [
            ("start", (0, 0), (0, 0), "1970-01-01 00:00:00 +0000 UTC m=+0.000000000"),
            (
                "fraction is cut",
                (1_000_000_000, 120_000_000),
                (5, 50),
                "2001-09-09 01:46:40.12 +0000 UTC m=+5.000000050",
            ),
            ("leap day", (1_709_164_800, 1), (0, 1), "2024-02-29 00:00:00.000000001 +0000 UTC m=+0.000000001"),
            ("end of a century", (4_107_542_399, 0), (1, 0), "2100-02-28 23:59:59 +0000 UTC m=+1.000000000"),
            ("no leap day in 2100", (4_107_542_400, 0), (1, 0), "2100-03-01 00:00:00 +0000 UTC m=+1.000000000"),
            (
                "end of a year",
                (1_798_761_599, 999_999_999),
                (9, 0),
                "2026-12-31 23:59:59.999999999 +0000 UTC m=+9.000000000",
            ),
        ] {
            let moment = Moment::new(Duration::new(unix.0, unix.1), Duration::new(running.0, running.1));
            assert_eq!(moment.to_string(), want, "{name}");
        }
    }

    #[test]
    fn the_clock_runs() {
        let first = Moment::now();
        std::thread::sleep(Duration::from_millis(5));
        let second = Moment::now();
        assert!(second.since(first) >= Duration::from_millis(5));
        assert_eq!(first.since(second), Duration::ZERO);
    }
}
