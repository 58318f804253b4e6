//! What the agent answers over its socket.

use serde_json::Value;

use super::shared::{Shared, locked};
use crate::{
    api::{
        Answers, Counters,
        error::{ApiError, Reason},
        maps::{MaglevShow, MapEntry, MapsDump},
        query::MaglevQuery,
        rows::{BackendRow, ServiceRow},
        status::{Canary, MapUse, Status},
    },
    desired::rows::NoTable,
    dump::Dump,
};
use lb_ebpf::abi::maps::{AFFINITY, CLIENTS, COUNTERS, DATAGRAMS, PEERS, STRAYS};

impl Answers for Shared {
    fn status(&self) -> Result<Status, ApiError> {
        let canary = self.canary();
        let (synced, ready, usage) = {
            let core = self.core();
            (core.synced, core.ready, core.reconciler.usage())
        };
        let mut maps: Vec<MapUse> = usage
            .into_iter()
            .map(|usage| MapUse {
                name: usage.map.name().to_owned(),
                used: usage.used.into(),
                capacity: usage.capacity.into(),
            })
            .collect();
        for name in AFFINITY.iter().chain(&PEERS).chain(&DATAGRAMS).chain([&STRAYS, &CLIENTS]) {
            if let Some(map) = self.maps.get(name) {
                let used = map.count().map_err(|error| unreadable(name, &error))?;
                maps.push(MapUse { name: (*name).to_owned(), used, capacity: map.shape().max_entries.into() });
            }
        }
        Ok(Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            synced,
            ready,
            canary,
            maps,
            problems: locked(&self.problems).all().into_iter().map(Into::into).collect(),
        })
    }

    fn canary(&self) -> Canary {
        locked(&self.canary).clone()
    }

    fn services(&self) -> Result<Vec<ServiceRow>, ApiError> {
        let core = self.core();
        Ok(core.reconciler.desired().service_rows(&core.model))
    }

    fn backends(&self) -> Result<Vec<BackendRow>, ApiError> {
        let core = self.core();
        Ok(core.reconciler.desired().backend_rows(&core.model))
    }

    fn maps(&self) -> Result<MapsDump, ApiError> {
        let core = self.core();
        let name = |service| core.reconciler.desired().port_name(service).map(ToString::to_string);
        let dump = Dump { state: core.reconciler.held().state(), name, verbose: true };
        let entry = |row: crate::dump::Row| MapEntry { key: Value::String(row.key), value: Value::String(row.value) };
        let maps = dump.rows().into_iter();
        Ok(MapsDump(maps.map(|(map, rows)| (map.to_owned(), rows.into_iter().map(entry).collect())).collect()))
    }

    fn maps_text(&self) -> Result<String, ApiError> {
        let core = self.core();
        let name = |service| core.reconciler.desired().port_name(service).map(ToString::to_string);
        Ok(Dump { state: core.reconciler.held().state(), name, verbose: false }.text())
    }

    fn maglev(&self, query: &MaglevQuery) -> Result<MaglevShow, ApiError> {
        let core = self.core();
        let MaglevQuery { port, protocol, family } = query;
        let shown = core.reconciler.desired().maglev_table(&core.model, &port.service, port.port, *protocol, *family);
        shown.map_err(|none| {
            let reason = match none {
                NoTable::NoPort { .. } => Reason::NotFound,
                NoTable::NotMaglev { .. } => Reason::NotMaglev,
            };
            ApiError::new(reason, none.to_string())
        })
    }

    fn counters(&self) -> Result<Counters, ApiError> {
        let mut counters = Counters([0; lb_ebpf::abi::drops::COUNTERS as usize]);
        if let Some(map) = self.maps.get(COUNTERS) {
            for (index, counter) in counters.0.iter_mut().enumerate() {
                *counter = map.sum(index as u32).map_err(|error| unreadable(COUNTERS, &error))?;
            }
        }
        Ok(counters)
    }
}

fn unreadable(map: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(Reason::Internal, format!("map {map} cannot be read: {error}"))
}
