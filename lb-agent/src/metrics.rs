//! `/metrics`: what the agent and its programs count, in Prometheus' text format.
//!
//! Names start with `lb_agent_`; kube-proxy's own names come with its whole behaviour. What the kernel counts is read
//! when somebody asks; what the agent does is counted as it happens.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_ebpf::abi::drops::{Counter, DropReason};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

use crate::api::{Counters, status::Status};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// Held while values are taken over from the kernel, so that two readers do not mix.
    taking: Mutex<()>,
    map_entries: IntGaugeVec,
    map_capacity: IntGaugeVec,
    canary_ok: IntGauge,
    canary_last: IntGauge,
    canary_uncovered: IntGauge,
    synced: IntGauge,
    ready: IntGauge,
    problems: IntGaugeVec,
    drops: IntCounterVec,
    events: IntCounterVec,
    sync_duration: Histogram,
    sync_last: Gauge,
    sync_ops: IntCounterVec,
    sync_failures: IntCounter,
}

/// A name that the registry refuses: two alike, or one that is none.
#[derive(Debug, thiserror::Error)]
#[error("metric: {source}")]
pub struct MetricsError {
    #[from]
    source: prometheus::Error,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let build = gauges(&registry, "build_info", "The version, as a label of the constant 1", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let buckets = prometheus::exponential_buckets(0.0001, 2.0, 18)?;
        let duration = HistogramOpts::new("lb_agent_sync_duration_seconds", "Time from compile to the last map write")
            .buckets(buckets);
        Ok(Self {
            taking: Mutex::new(()),
            map_entries: gauges(&registry, "map_entries", "Entries that a map holds", &["map"])?,
            map_capacity: gauges(&registry, "map_capacity", "Entries that a map can take", &["map"])?,
            canary_ok: gauge(&registry, "canary_ok", "1 if the last canary reached the programs from every pod")?,
            canary_last: gauge(&registry, "canary_last_timestamp_seconds", "When the last canary ran; 0: never")?,
            canary_uncovered: gauge(&registry, "canary_uncovered_pods", "Pods that the programs do not cover")?,
            synced: gauge(&registry, "synced", "1 if every list of the source has been read")?,
            ready: gauge(&registry, "ready", "1 if the programs serve what was read")?,
            problems: gauges(&registry, "problems", "Problems that stand, by kind of object", &["kind"])?,
            drops: counters(&registry, "drops_total", "Connections and binds that were refused", &["reason"])?,
            events: counters(&registry, "socket_events_total", "What else the programs counted", &["event"])?,
            sync_duration: register(&registry, Histogram::with_opts(duration)?)?,
            sync_last: register(
                &registry,
                Gauge::with_opts(opts("sync_last_timestamp_seconds", "When the maps last became what was wanted"))?,
            )?,
            sync_ops: counters(&registry, "sync_ops_total", "Map writes and deletes of plans", &["stage"])?,
            sync_failures: register(
                &registry,
                IntCounter::with_opts(opts("sync_op_failures_total", "Map writes and deletes that failed"))?,
            )?,
            registry,
        })
    }

    /// Counts one run of the loop: how long it took, how many operations of each stage it made, and how many failed.
    pub fn synced<'a>(
        &self,
        took: Duration,
        ops: impl IntoIterator<Item = (&'a str, u64)>,
        failures: u64,
        unix_seconds: u64,
    ) {
        self.sync_duration.observe(took.as_secs_f64());
        for (stage, count) in ops {
            self.sync_ops.with_label_values(&[stage]).inc_by(count);
        }
        self.sync_failures.inc_by(failures);
        if failures == 0 {
            self.sync_last.set(unix_seconds as f64);
        }
    }

    /// Writes every metric, with what the agent and the kernel say at this moment.
    pub fn text(&self, status: &Status, counters: &Counters) -> Result<String, MetricsError> {
        let _taking = self.lock();
        self.take_status(status);
        for reason in DropReason::ALL {
            set(&self.drops, reason.name(), counters.drops(reason));
        }
        for counter in Counter::ALL {
            set(&self.events, counter.name(), counters.count(counter));
        }
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    fn take_status(&self, status: &Status) {
        self.map_entries.reset();
        self.map_capacity.reset();
        for map in &status.maps {
            self.map_entries.with_label_values(&[&map.name]).set(signed(map.used));
            self.map_capacity.with_label_values(&[&map.name]).set(signed(map.capacity));
        }
        self.canary_ok.set(status.canary.ok.into());
        self.canary_last.set(signed(status.canary.last_unix));
        self.canary_uncovered.set(signed(status.canary.uncovered.len() as u64));
        self.synced.set(status.synced.into());
        self.ready.set(status.ready.into());
        self.problems.reset();
        for problem in &status.problems {
            self.problems.with_label_values(&[&problem.kind]).inc();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets a counter to what the kernel counted.
fn set(counters: &IntCounterVec, label: &str, value: u64) {
    let counter = counters.with_label_values(&[label]);
    counter.reset();
    counter.inc_by(value);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("lb_agent_{name}"), help)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
    register(registry, IntGauge::with_opts(opts(name, help))?)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
    register(registry, IntGaugeVec::new(opts(name, help), labels)?)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
    register(registry, IntCounterVec::new(opts(name, help), labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, MetricsError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use lb_ebpf::abi::drops::COUNTERS;

    use super::*;
    use crate::api::status::{Canary, MapUse, ProblemRow};

    fn status() -> Status {
        Status {
            node: "n1".into(),
            version: "1".into(),
            synced: true,
            ready: false,
            canary: Canary { ok: true, last_unix: 1_795_255_200, uncovered: vec!["a/b".into()] },
            maps: vec![MapUse { name: "frontends4".into(), used: 7, capacity: 100 }],
            problems: ["x", "y"]
                .map(|message| ProblemRow {
                    kind: "Service".into(),
                    object: "a/b".into(),
                    field: String::new(),
                    message: message.into(),
                })
                .into(),
        }
    }

    #[test]
    fn text_follows_status_and_counters() {
        let metrics = Metrics::new().unwrap();
        metrics.synced(Duration::from_millis(3), [("SetBackend", 4), ("SetFrontend", 2)], 0, 1_795_255_200);
        metrics.synced(Duration::from_millis(1), [("SetBackend", 1)], 1, 1_795_255_300);
        let mut counters = Counters([0; COUNTERS as usize]);
        counters.0[DropReason::NoBackend as usize] = 5;
        counters.0[Counter::Connected as usize] = 11;
        let first = metrics.text(&status(), &counters).unwrap();
        for line in [
            "lb_agent_map_entries{map=\"frontends4\"} 7",
            "lb_agent_map_capacity{map=\"frontends4\"} 100",
            "lb_agent_canary_ok 1",
            "lb_agent_canary_last_timestamp_seconds 1795255200",
            "lb_agent_canary_uncovered_pods 1",
            "lb_agent_synced 1",
            "lb_agent_ready 0",
            "lb_agent_problems{kind=\"Service\"} 2",
            "lb_agent_drops_total{reason=\"NoBackend\"} 5",
            "lb_agent_drops_total{reason=\"SourceRange\"} 0",
            "lb_agent_socket_events_total{event=\"connected\"} 11",
            "lb_agent_sync_duration_seconds_count 2",
            "lb_agent_sync_ops_total{stage=\"SetBackend\"} 5",
            "lb_agent_sync_op_failures_total 1",
            "lb_agent_sync_last_timestamp_seconds 1795255200",
        ] {
            assert!(first.lines().any(|have| have == line), "{line} is missing in\n{first}");
        }
        counters.0[DropReason::NoBackend as usize] = 6;
        let mut status = status();
        status.problems.clear();
        status.maps[0].name = "frontends6".into();
        let second = metrics.text(&status, &counters).unwrap();
        assert!(second.contains("lb_agent_drops_total{reason=\"NoBackend\"} 6\n"), "{second}");
        assert!(!second.contains("lb_agent_problems{"), "{second}");
        assert!(!second.contains("frontends4"), "{second}");
    }
}
