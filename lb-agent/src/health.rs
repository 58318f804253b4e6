//! `/healthz` and `/livez` as kube-proxy answers them (pkg/proxy/healthcheck/proxy_health.go of Kubernetes 1.36), with
//! one difference: a canary that fails for [`CANARY_TIMEOUT`] makes `/healthz` unhealthy too.
//!
//! Losing the source of objects changes nothing here: what is in the maps goes on serving.

mod moment;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use self::moment::Moment;

/// An update that is pending for so long makes the agent unhealthy: twice kube-proxy's syncPeriod of 30 s.
pub const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// A canary that fails for so long makes `/healthz` unhealthy. Long, since every load balancer leaves a node whose
/// `/healthz` fails.
pub const CANARY_TIMEOUT: Duration = Duration::from_secs(60);

/// What the answers depend on. The caller brings the time.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    updated: Option<Moment>,
    queued: Option<Moment>,
    leaving: bool,
    canary: Option<CanarySeen>,
}

#[derive(Clone, Copy, Debug)]
struct CanarySeen {
    /// The last report.
    last: Moment,
    /// The first report of the failure that lasts.
    failing_since: Option<Moment>,
}

/// What a probe is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAnswer {
    /// 200 if true, else 503.
    pub healthy: bool,
    /// The body: JSON.
    pub body: String,
}

impl Health {
    /// Records that objects changed and the maps do not say so yet. Only the oldest such moment counts.
    pub fn queued(&self, now: Moment) {
        self.lock().queued.get_or_insert(now);
    }

    /// Records that the maps hold what was wanted.
    pub fn updated(&self, now: Moment) {
        let mut state = self.lock();
        state.queued = None;
        state.updated = Some(now);
    }

    /// Records whether this node is being deleted, or tainted `ToBeDeletedByClusterAutoscaler` (KEP-3836).
    pub fn node(&self, leaving: bool) {
        self.lock().leaving = leaving;
    }

    /// Records what a canary found.
    pub fn canary(&self, ok: bool, now: Moment) {
        let mut state = self.lock();
        let since = state.canary.and_then(|seen| seen.failing_since);
        state.canary = Some(CanarySeen { last: now, failing_since: (!ok).then_some(since.unwrap_or(now)) });
    }

    /// True while no update is late, whatever the node and the canary: `serviceProxyHealthy` of a health check node
    /// port.
    pub fn in_time(&self, now: Moment) -> bool {
        self.lock().in_time(now)
    }

    /// Answers `/healthz`.
    pub fn healthz(&self, now: Moment) -> HealthAnswer {
        let state = self.lock();
        let eligible = !state.leaving;
        let healthy = state.in_time(now) && eligible && state.canary_in_time(now);
        let updated = state.last_updated(healthy, now);
        let body = format!(r#"{{"lastUpdated": "{updated}","currentTime": "{now}", "nodeEligible": {eligible}}}"#);
        HealthAnswer { healthy, body }
    }

    /// Answers `/livez`.
    pub fn livez(&self, now: Moment) -> HealthAnswer {
        let state = self.lock();
        let healthy = state.in_time(now);
        let updated = state.last_updated(healthy, now);
        HealthAnswer { healthy, body: format!(r#"{{"lastUpdated": "{updated}","currentTime": "{now}"}}"#) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A node that starts up, and has never been updated, is in time.
    fn in_time(&self, now: Moment) -> bool {
        match (self.updated, self.queued) {
            (Some(_), Some(queued)) => now.since(queued) < SYNC_TIMEOUT,
            (None, _) | (_, None) => true,
        }
    }

    /// A canary that falls silent fails as well as one that says so; one that has never run is starting up.
    fn canary_in_time(&self, now: Moment) -> bool {
        self.canary.is_none_or(|seen| now.since(seen.failing_since.unwrap_or(seen.last)) < CANARY_TIMEOUT)
    }

    /// The moment in the body: as recent as the answer if that is healthy.
    fn last_updated(&self, healthy: bool, now: Moment) -> String {
        match (healthy, self.updated) {
            (true, _) => now.to_string(),
            (false, Some(updated)) => updated.to_string(),
            (false, None) => moment::ZERO.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(1_795_255_200 + seconds), Duration::from_secs(seconds))
    }

    #[test]
    fn health_table() {
        type Steps = fn(&Health);
        let rows: [(&str, Steps, u64, bool, bool); 13] = [
            ("starting up", |_| {}, 1000, true, true),
            ("never updated, and late", |h| h.queued(at(0)), 1000, true, true),
            ("synced", |h| h.updated(at(5)), 1000, true, true),
            ("pending", |h| (h.updated(at(0)), h.queued(at(10))).1, 69, true, true),
            ("late", |h| (h.updated(at(0)), h.queued(at(10))).1, 70, false, false),
            ("the oldest counts", |h| (h.updated(at(0)), h.queued(at(10)), h.queued(at(60))).2, 70, false, false),
            ("late, then done", |h| (h.updated(at(0)), h.queued(at(10)), h.updated(at(90))).2, 91, true, true),
            ("node leaves", |h| h.node(true), 1, false, true),
            ("node stays after all", |h| (h.node(true), h.node(false)).1, 1, true, true),
            ("canary fails, not for long", |h| (h.canary(true, at(0)), h.canary(false, at(5))).1, 64, true, true),
            ("canary fails for long", |h| (h.canary(false, at(5)), h.canary(false, at(60))).1, 65, false, true),
            ("canary falls silent", |h| h.canary(true, at(0)), 60, false, true),
            ("canary is back", |h| (h.canary(false, at(0)), h.canary(true, at(90))).1, 91, true, true),
        ];
        for (name, steps, now, healthz, livez) in rows {
            let health = Health::default();
            steps(&health);
            assert_eq!(health.healthz(at(now)).healthy, healthz, "/healthz: {name}");
            assert_eq!(health.livez(at(now)).healthy, livez, "/livez: {name}");
        }
    }

    #[test]
    fn bodies_are_kube_proxys() {
        let health = Health::default();
        health.node(true);
        let never = r#"{"lastUpdated": "0001-01-01 00:00:00 +0000 UTC","currentTime": "2026-11-21 10:00:02 +0000 UTC m=+2.000000000", "nodeEligible": false}"#;
        assert_eq!(health.healthz(at(2)).body, never);
        health.node(false);
        health.updated(at(1));
        let now = "2026-11-21 10:00:02 +0000 UTC m=+2.000000000";
        assert_eq!(
            health.healthz(at(2)).body,
            format!(r#"{{"lastUpdated": "{now}","currentTime": "{now}", "nodeEligible": true}}"#)
        );
        assert_eq!(health.livez(at(2)).body, format!(r#"{{"lastUpdated": "{now}","currentTime": "{now}"}}"#));
        health.queued(at(2));
        let late = r#"{"lastUpdated": "2026-11-21 10:00:01 +0000 UTC m=+1.000000000","currentTime": "2026-11-21 10:01:40 +0000 UTC m=+100.000000000"}"#;
        assert_eq!(health.livez(at(100)).body, late);
    }
}
