//! What the maps hold as text: the same for the same cluster, whatever happened before.
//!
//! Entries are named by what they mean: services by name, ids by endpoint, runs by service and policy. Numbers that
//! depend on history (ids, lines, generations) are shown only on request.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use ::maglev::fill::{BackendKey, Digest};
use lb_ebpf::abi::{
    backend::flags,
    flow::TICK_NS,
    frontend::{Kind, Word, address_flags, word_flags},
};

use crate::{
    desired::{
        maglev,
        state::{Backend, BackendId, MapState, Run, named_line},
    },
    maps::Map,
    model::addr::{Family, Protocol},
};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What it is found by.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Shows a state.
pub struct Dump<'a, N> {
    /// The state.
    pub state: &'a MapState,
    /// Names a service port by its number.
    pub name: N,
    /// Shows ids, lines and generations too.
    pub verbose: bool,
}

impl<N: Fn(u32) -> Option<String>> Dump<'_, N> {
    /// All entries by map, each map's in order.
    pub fn rows(&self) -> BTreeMap<&'static str, Vec<Row>> {
        let mut rows: BTreeMap<&'static str, Vec<Row>> = Map::ALL.map(|map| (map.name(), Vec::new())).into();
        let mut add = |map: Map, row: Row| rows.entry(map.name()).or_default().push(row);
        for (frontend, word) in &self.state.frontends {
            let row = Row { key: frontend.to_string(), value: self.word(*word) };
            add(Map::frontends(frontend.family()), row);
        }
        let mut backends: Vec<(String, &Backend, BackendId)> =
            self.state.backends.iter().map(|(id, backend)| (self.service(backend.service), backend, *id)).collect();
        backends.sort_by(|a, b| (&a.0, a.1.address, a.1.port, a.2).cmp(&(&b.0, b.1.address, b.1.port, b.2)));
        for (service, backend, id) in backends {
            add(Map::backends(id.family), self.backend(&service, backend, id));
        }
        let kinds = self.kinds();
        let mut runs: Vec<(String, Family, u32, Row)> = self
            .state
            .runs
            .iter()
            .map(|(line, run)| {
                let service = self.service(run.service);
                let row = self.run(&service, *line, run, kinds.get(line) == Some(&Kind::Maglev));
                (service, run.family, run.pool, row)
            })
            .collect();
        runs.sort();
        runs.into_iter().for_each(|(_, _, _, row)| add(Map::Arena, row));
        for (address, bits) in &self.state.addresses {
            add(Map::addresses(Family::of(address)), Row { key: address.to_string(), value: address_words(*bits) });
        }
        let mut ranges: Vec<(String, IpAddr, u32)> =
            self.state.ranges.iter().map(|range| (self.service(range.service), range.address, range.prefix)).collect();
        ranges.sort();
        for (service, address, prefix) in ranges {
            add(
                Map::ranges(Family::of(&address)),
                Row { key: format!("{service} {address}/{prefix}"), value: "admitted".to_owned() },
            );
        }
        rows
    }

    /// All entries, a line each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (map, rows) in self.rows() {
            for Row { key, value } in rows {
                writeln!(text, "{map:<10}  {key:<36}  {value}").expect("a string takes every text");
            }
        }
        text
    }

    fn word(&self, word: Word) -> String {
        let mut text = match word.kind() {
            Some(Kind::Random) => "random".to_owned(),
            Some(Kind::Maglev) => "maglev".to_owned(),
            Some(Kind::LeastConnections) => "least-connections".to_owned(),
            Some(Kind::Refuse) => "refuse".to_owned(),
            Some(Kind::Drop) => "drop".to_owned(),
            Some(Kind::Canary) => "canary".to_owned(),
            None => format!("word {:#018x}", word.0),
        };
        if let Some(line) = named_line(word) {
            match self.state.run_of(word) {
                Some(run) => push(&mut text, format_args!("{} {}", self.service(run.service), pool_words(run.pool))),
                None => push(&mut text, format_args!("no run {} at line {line}", word.generation())),
            }
        }
        if word.flags() & word_flags::SOURCE_RANGES != 0 {
            text.push_str(" source-ranges");
        }
        if self.verbose
            && let Some(line) = named_line(word)
        {
            push(&mut text, format_args!("(line {line}, generation {})", word.generation()));
        }
        text
    }

    fn backend(&self, service: &str, backend: &Backend, id: BackendId) -> Row {
        let mut value = service.to_owned();
        for (bit, word) in [(flags::CLUSTER, "cluster"), (flags::LOCAL, "local"), (flags::TERMINATING, "terminating")] {
            if backend.flags & bit != 0 {
                push(&mut value, format_args!("{word}"));
            }
        }
        if backend.flags & flags::LIVE == 0 {
            value.push_str(" free");
        }
        if self.verbose {
            push(&mut value, format_args!("(id {})", id.id));
        }
        Row { key: backend.to_string(), value }
    }

    fn run(&self, service: &str, line: u32, run: &Run, maglev: bool) -> Row {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        run.ids.iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        let mut members: Vec<(Option<SocketAddr>, u32, u32)> =
            counts.into_iter().map(|(id, count)| (self.endpoint(run, id), id, count)).collect();
        members.sort();
        let mut value = String::new();
        if run.affinity_ticks != 0 {
            write!(value, "affinity {}s: ", u64::from(run.affinity_ticks) * TICK_NS / 1_000_000_000)
                .expect("a string takes every text");
        }
        for (place, (endpoint, id, count)) in members.into_iter().enumerate() {
            value.push_str(if place == 0 { "" } else { ", " });
            let endpoint = endpoint.map_or_else(|| format!("unknown backend {id}"), |endpoint| endpoint.to_string());
            value.push_str(&endpoint);
            if count > 1 {
                push(&mut value, format_args!("x{count}"));
            }
        }
        if maglev && let Some(digest) = self.digest(run) {
            push(&mut value, format_args!("digest {digest}"));
        }
        if self.verbose {
            push(&mut value, format_args!("(line {line}, generation {})", run.generation));
        }
        Row { key: format!("{service} {} {}", run.family, pool_words(run.pool)), value }
    }

    /// The digest of a Maglev table, if all its backends are there.
    fn digest(&self, run: &Run) -> Option<Digest> {
        let mut keys: BTreeMap<u32, BackendKey> = BTreeMap::new();
        for id in &run.ids {
            if !keys.contains_key(id) {
                let backend = self.state.backends.get(&BackendId { family: run.family, id: *id })?;
                let protocol = Protocol::from_number(backend.protocol)?;
                keys.insert(*id, maglev::key(backend.address, backend.port, protocol));
            }
        }
        Some(Digest::of_keys(run.ids.iter().map(|id| &keys[id])))
    }

    fn endpoint(&self, run: &Run, id: u32) -> Option<SocketAddr> {
        let backend = self.state.backends.get(&BackendId { family: run.family, id })?;
        Some(SocketAddr::new(backend.address, backend.port))
    }

    fn service(&self, service: u32) -> String {
        (self.name)(service).unwrap_or_else(|| format!("service {service}"))
    }

    /// What the words that name each line do with it.
    fn kinds(&self) -> BTreeMap<u32, Kind> {
        self.state.frontends.values().filter_map(|word| Some((named_line(*word)?, word.kind()?))).collect()
    }
}

/// Appends behind a space.
fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    write!(text, " {more}").expect("a string takes every text");
}

fn pool_words(pool: u32) -> &'static str {
    match u8::try_from(pool) {
        Ok(flags::CLUSTER) => "cluster",
        Ok(flags::LOCAL) => "local",
        Ok(_) | Err(_) => "of no pool",
    }
}

fn address_words(bits: u32) -> String {
    let words = [
        (address_flags::REFUSE_UNKNOWN, "refuse-unknown"),
        (address_flags::NODE_PORT, "node-port"),
        (address_flags::HOST_ONLY, "host-only"),
    ];
    let known: Vec<&str> = words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect();
    if known.is_empty() { format!("flags {bits:#x}") } else { known.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::desired::state::{Frontend, Range};

    fn state() -> MapState {
        let vip = |last, port| Frontend::internal(IpAddr::from([10, 96, 0, last]), port, Protocol::Tcp);
        let id = |id| BackendId { family: Family::V4, id };
        let backend = |last, flags| Backend {
            address: IpAddr::from([10, 244, 0, last]),
            port: 8080,
            protocol: 6,
            flags,
            service: 7,
        };
        let run =
            Run { family: Family::V4, generation: 4099, service: 7, affinity_ticks: 50, pool: 2, ids: vec![3, 9, 3] };
        MapState {
            frontends: [
                (vip(1, 80), Word::new(5, Kind::Random, word_flags::SOURCE_RANGES, 4099, 0)),
                (vip(1, 81), Word::new(6, Kind::Random, 0, 1, 0)),
                (vip(2, 80), Word(0)),
            ]
            .into(),
            backends: [(id(1), backend(2, flags::TERMINATING)), (id(3), backend(1, flags::LIVE | flags::LOCAL))].into(),
            runs: [(5, Arc::new(run))].into(),
            addresses: [(IpAddr::from([10, 96, 0, 1]), 1), (IpAddr::from([10, 96, 0, 9]), 64)].into(),
            ranges: [Range { service: 8, address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }].into(),
        }
    }

    fn lines(verbose: bool) -> Vec<String> {
        let state = state();
        let name = |service| (service == 7).then(|| "default/web:80/TCP".to_owned());
        let text = Dump { state: &state, name, verbose }.text();
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn everything_is_shown_also_what_no_agent_writes() {
        assert_eq!(
            lines(false),
            [
                "addresses4 10.96.0.1 refuse-unknown",
                "addresses4 10.96.0.9 flags 0x40",
                "arena default/web:80/TCP IPv4 local affinity 5s: unknown backend 9, 10.244.0.1:8080 x2",
                "backends4 10.244.0.1:8080/TCP default/web:80/TCP local",
                "backends4 10.244.0.2:8080/TCP default/web:80/TCP terminating free",
                "frontends4 10.96.0.1:80/TCP random default/web:80/TCP local source-ranges",
                "frontends4 10.96.0.1:81/TCP random no run 1 at line 6",
                "frontends4 10.96.0.2:80/TCP word 0x0000000000000000",
                "ranges4 service 8 192.0.2.0/24 admitted",
            ]
        );
    }

    #[test]
    fn numbers_are_shown_on_request() {
        let lines = lines(true);
        for (place, end) in [
            (2, "(line 5, generation 4099)"),
            (3, "(id 3)"),
            (4, "(id 1)"),
            (5, "(line 5, generation 3)"),
            (6, "(line 6, generation 1)"),
        ] {
            assert!(lines[place].ends_with(end), "{}", lines[place]);
        }
    }
}
