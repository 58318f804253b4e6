//! Answers in columns.

use std::{fmt::Write, net::SocketAddr};

use serde::{Serialize, Serializer};

use super::{
    output::Show,
    table::{columns, or_dash},
};
use crate::{
    api::{
        maps::MaglevShow,
        rows::{BackendRow, ServiceRow},
        status::{Canary, Probe, Status},
    },
    model::Name,
};

/// So many backends are named in a row of a list.
const NAMED: usize = 3;

const SERVICE: [&str; 9] =
    ["NAMESPACE", "NAME", "PORT", "VIA", "ADDRESS", "ALGORITHM", "AFFINITY", "POLICY", "BACKENDS"];

impl Show for Vec<ServiceRow> {
    fn table(&self, _: u64) -> String {
        let rows: Vec<_> = self.iter().map(|row| service(row, some(&row.backends))).collect();
        columns(SERVICE, &rows)
    }
}

/// The rows of one service, with every backend.
pub(super) struct OneService<'a> {
    pub(super) name: &'a Name,
    pub(super) rows: &'a [ServiceRow],
}

impl Serialize for OneService<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(serializer)
    }
}

impl Show for OneService<'_> {
    fn table(&self, _: u64) -> String {
        if self.rows.is_empty() {
            return format!("no service {}\n", self.name);
        }
        let mut rows = Vec::new();
        for row in self.rows {
            let first = row.backends.first().map(ToString::to_string);
            rows.push(service(row, first.unwrap_or_else(|| or_dash(""))));
            for more in row.backends.iter().skip(1) {
                let mut line = [const { String::new() }; SERVICE.len()];
                line[SERVICE.len() - 1] = more.to_string();
                rows.push(line);
            }
        }
        columns(SERVICE, &rows)
    }
}

fn service(row: &ServiceRow, backends: String) -> [String; SERVICE.len()] {
    let affinity = if row.affinity_seconds == 0 { or_dash("") } else { format!("{}s", row.affinity_seconds) };
    [
        row.namespace.clone(),
        row.name.clone(),
        format!("{}/{}", row.port, row.protocol),
        row.via.name().to_owned(),
        row.address.to_string(),
        row.algorithm.name().to_owned(),
        affinity,
        format!("{}/{}", row.internal_traffic_policy.name(), row.external_traffic_policy.name()),
        backends,
    ]
}

fn some(backends: &[SocketAddr]) -> String {
    let mut named = backends.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(",");
    if backends.len() > NAMED {
        // Writing to a String cannot fail.
        let _ = write!(named, " and {} more", backends.len() - NAMED);
    }
    or_dash(&named)
}

impl Show for Vec<BackendRow> {
    fn table(&self, _: u64) -> String {
        let rows: Vec<_> = self
            .iter()
            .map(|row| {
                let services: Vec<_> = row.services.iter().map(ToString::to_string).collect();
                [
                    row.id.to_string(),
                    row.address.to_string(),
                    row.protocol.to_string(),
                    or_dash(&row.node),
                    row.state.name().to_owned(),
                    or_dash(&services.join(",")),
                ]
            })
            .collect();
        columns(["ID", "ADDRESS", "PROTOCOL", "NODE", "STATE", "SERVICES"], &rows)
    }
}

impl Show for MaglevShow {
    fn table(&self, _: u64) -> String {
        let rows: Vec<_> = self
            .slots
            .iter()
            .map(|(backend, count)| {
                let share = f64::from(*count) * 100.0 / f64::from(self.size.max(1));
                [backend.clone(), count.to_string(), format!("{share:.2} %")]
            })
            .collect();
        format!("size    {}\ndigest  {}\n\n{}", self.size, self.digest, columns(["BACKEND", "SLOTS", "SHARE"], &rows))
    }
}

impl Show for Status {
    fn table(&self, now: u64) -> String {
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let facts = [
            ("node", self.node.clone()),
            ("version", self.version.clone()),
            ("synced", yes(self.synced).to_owned()),
            ("ready", yes(self.ready).to_owned()),
            ("canary", canary(&self.canary, now)),
            ("problems", if self.problems.is_empty() { "none".to_owned() } else { self.problems.len().to_string() }),
        ];
        let mut text: String = facts.iter().map(|(name, value)| format!("{name:<8}  {value}\n")).collect();
        let maps: Vec<_> =
            self.maps.iter().map(|map| [map.name.clone(), map.used.to_string(), map.capacity.to_string()]).collect();
        text.push('\n');
        text.push_str(&columns(["MAP", "USED", "CAPACITY"], &maps));
        if !self.problems.is_empty() {
            let problems: Vec<_> = self
                .problems
                .iter()
                .map(|p| [p.kind.clone(), p.object.clone(), or_dash(&p.field), p.message.clone()])
                .collect();
            text.push('\n');
            text.push_str(&columns(["KIND", "OBJECT", "FIELD", "PROBLEM"], &problems));
        }
        text
    }
}

fn canary(canary: &Canary, now: u64) -> String {
    if canary.last_unix == 0 {
        return "has not run yet".to_owned();
    }
    let age = now.saturating_sub(canary.last_unix);
    let state = if canary.ok { "ok" } else { "failing" };
    let mut text = format!("{state}, {age} s ago");
    if !canary.uncovered.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, "; not covered: {}", canary.uncovered.join(", "));
    }
    text
}

impl Show for Probe {
    fn table(&self, _: u64) -> String {
        let rows: Vec<_> = self
            .features
            .iter()
            .map(|feature| {
                let (available, cost) = match (feature.available, feature.required) {
                    (true, _) => ("yes", ""),
                    (false, true) => ("no (required)", feature.without_it.as_str()),
                    (false, false) => ("no", feature.without_it.as_str()),
                };
                [feature.name.clone(), available.to_owned(), feature.needed_for.clone(), or_dash(cost)]
            })
            .collect();
        let table = columns(["FEATURE", "AVAILABLE", "NEEDED FOR", "WITHOUT IT"], &rows);
        format!("kernel  {}\n\n{table}", self.kernel)
    }
}
