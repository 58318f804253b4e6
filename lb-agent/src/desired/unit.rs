//! One port of a Service in one family: what it puts into the maps.

use std::{net::IpAddr, sync::Arc};

use ::maglev::fill::Size;
use lb_ebpf::abi::{
    backend::flags,
    flow::TICK_NS,
    frontend::{Kind, Word, word_flags},
};

use super::{
    frontends::{Listing, Via},
    maglev,
    room::{Receipt, Room, RoomError},
    state::{Backend, BackendId, Frontend, Range, Run},
    table,
};
use crate::{
    model::{
        addr::{Family, Protocol},
        service::{Algorithm, Service, TrafficPolicy},
    },
    select::{Candidate, Selection},
};

/// A port as one family shows it.
pub(crate) struct View {
    pub(crate) family: Family,
    pub(crate) listings: Vec<Listing>,
    pub(crate) selection: Selection,
}

/// What a unit is made from.
pub(crate) struct Spec<'a> {
    pub(crate) service: &'a Service,
    /// The number of the service port.
    pub(crate) id: u32,
    pub(crate) protocol: Protocol,
    pub(crate) view: &'a View,
    pub(crate) algorithm: Algorithm,
    pub(crate) maglev_size: Size,
}

/// The entries of one port in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The number of the service port.
    pub(crate) id: u32,
    pub(crate) family: Family,
    pub(crate) frontends: Vec<(Frontend, Via, Word)>,
    /// For Cluster and for Local policy: first line and content.
    pub(crate) tables: [Option<(u32, Arc<Run>)>; 2],
    /// By address and port.
    pub(crate) backends: Vec<(BackendId, Backend)>,
    pub(crate) ranges: Vec<Range>,
}

/// An endpoint on its way into the maps.
struct Member {
    address: IpAddr,
    port: u16,
    flags: u8,
    weight: u32,
    id: u32,
}

const POLICIES: [(TrafficPolicy, u8); 2] =
    [(TrafficPolicy::Cluster, flags::CLUSTER), (TrafficPolicy::Local, flags::LOCAL)];

/// Compiles a unit. Ids and runs of the same content stay what they were in `before`. If there is no room, everything
/// given out is taken back.
pub(crate) fn compile(room: &mut Room, spec: &Spec<'_>, before: Option<&Unit>) -> Result<Unit, RoomError> {
    let mut receipt = Receipt::default();
    let unit = build(room, spec, before, &mut receipt);
    if unit.is_err() {
        room.cancel(receipt);
    }
    unit
}

fn build(room: &mut Room, spec: &Spec<'_>, before: Option<&Unit>, receipt: &mut Receipt) -> Result<Unit, RoomError> {
    let mut unit = Unit {
        id: spec.id,
        family: spec.view.family,
        frontends: Vec::new(),
        tables: [None, None],
        backends: Vec::new(),
        ranges: Vec::new(),
    };
    if spec.view.listings.is_empty() {
        return Ok(unit);
    }
    let mut members = members(spec);
    for member in &mut members {
        member.id = match before.and_then(|before| before.backend(member.address, member.port)) {
            Some(id) => id.id,
            None => room.backend(spec.id, member.address, member.port, receipt)?,
        };
    }
    for (place, (policy, pool)) in POLICIES.into_iter().enumerate() {
        let ids = ids(spec, members.iter().filter(|member| member.flags & pool != 0));
        if ids.is_empty() {
            continue;
        }
        let run = Run {
            family: spec.view.family,
            generation: 0,
            service: spec.id,
            affinity_ticks: affinity_ticks(spec.service),
            pool: pool.into(),
            ids,
        };
        let kept = before.and_then(|before| before.tables[place].as_ref()).filter(|(_, held)| held.same_content(&run));
        unit.tables[place] = Some(match kept {
            Some((line, held)) => (*line, Arc::clone(held)),
            None => {
                let users = spec.view.listings.iter().filter(|listing| listing.policy == policy);
                room.run(run, users.map(|listing| &listing.frontend), receipt)?
            }
        });
    }
    unit.frontends =
        spec.view.listings.iter().map(|listing| (listing.frontend, listing.via, word(spec, &unit, listing))).collect();
    unit.frontends.sort_unstable_by_key(|(frontend, ..)| *frontend);
    unit.backends = members.into_iter().map(|member| member.backend(spec)).collect();
    // Without a table nobody is admitted to anything.
    if unit.tables[0].is_some() && spec.view.listings.iter().any(|listing| listing.ranges) {
        let ranges = spec.service.source_ranges.iter().filter(|range| Family::of(&range.address()) == spec.view.family);
        unit.ranges.extend(ranges.map(|range| Range {
            service: spec.id,
            address: range.address(),
            prefix: range.prefix().into(),
        }));
    }
    Ok(unit)
}

/// The endpoints of all tables that a frontend selects from, and those that drain, by address and port.
fn members(spec: &Spec<'_>) -> Vec<Member> {
    let Selection { cluster, local, draining, any_in_cluster: _ } = &spec.view.selection;
    let mut members: Vec<Member> = Vec::new();
    let mut add = |candidates: &[Candidate], pool: u8| {
        members.extend(candidates.iter().map(|candidate| Member {
            address: candidate.address,
            port: candidate.port,
            flags: flags::LIVE | pool | if candidate.terminating { flags::TERMINATING } else { 0 },
            weight: candidate.weight.into(),
            id: 0,
        }));
    };
    for ((policy, pool), list) in POLICIES.into_iter().zip([cluster, local]) {
        if spec.view.listings.iter().any(|listing| listing.policy == policy) {
            add(list.as_deref().unwrap_or_default(), pool);
        }
    }
    add(draining, 0);
    members.sort_by_key(|member| (member.address, member.port));
    members.dedup_by(|next, first| {
        let same = (next.address, next.port) == (first.address, first.port);
        if same {
            first.flags |= next.flags;
            first.weight = first.weight.max(next.weight);
        }
        same
    });
    members
}

fn ids<'a>(spec: &Spec<'_>, members: impl Iterator<Item = &'a Member>) -> Vec<u32> {
    match spec.algorithm {
        Algorithm::Random | Algorithm::LeastConnections => {
            let weighted: Vec<(u32, u32)> = members.map(|member| (member.id, member.weight)).collect();
            table::expand(&weighted)
        }
        Algorithm::Maglev => {
            let members: Vec<maglev::Member> = members.map(Member::maglev).collect();
            maglev::table(spec.maglev_size, spec.protocol, &members)
        }
    }
}

fn word(spec: &Spec<'_>, unit: &Unit, listing: &Listing) -> Word {
    let table = match listing.policy {
        TrafficPolicy::Cluster => &unit.tables[0],
        TrafficPolicy::Local => &unit.tables[1],
    };
    let flags = if listing.ranges { word_flags::SOURCE_RANGES } else { 0 };
    let (line, kind, generation) = match table {
        Some((line, run)) => (*line, kind(spec.algorithm), run.generation),
        None if listing.policy == TrafficPolicy::Local && spec.view.selection.any_in_cluster => (0, Kind::Drop, 0),
        None => (0, Kind::Refuse, 0),
    };
    Word::new(line, kind, flags, generation, listing.frontend.fingerprint())
}

const fn kind(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::Random => Kind::Random,
        Algorithm::Maglev => Kind::Maglev,
        Algorithm::LeastConnections => Kind::LeastConnections,
    }
}

fn affinity_ticks(service: &Service) -> u32 {
    const TICKS_PER_SECOND: u32 = (1_000_000_000 / TICK_NS) as u32;
    service.affinity_seconds.map_or(0, |seconds| seconds.saturating_mul(TICKS_PER_SECOND))
}

impl View {
    /// Every endpoint that the port may use, some of them more than once.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (IpAddr, u16)> {
        let Selection { cluster, local, draining, any_in_cluster: _ } = &self.selection;
        let listed = cluster.iter().chain(local).flatten();
        listed.chain(draining).map(|candidate| (candidate.address, candidate.port))
    }
}

impl Unit {
    /// True if it claims that frontend.
    pub(crate) fn has_frontend(&self, frontend: &Frontend) -> bool {
        self.frontends.binary_search_by_key(frontend, |(other, ..)| *other).is_ok()
    }

    /// True if one of its tables starts at that line.
    pub(crate) fn has_table(&self, line: u32) -> bool {
        self.tables.iter().flatten().any(|(other, _)| *other == line)
    }

    /// The id of an endpoint.
    fn backend(&self, address: IpAddr, port: u16) -> Option<BackendId> {
        let place = self.backends.binary_search_by_key(&(address, port), |(_, held)| (held.address, held.port)).ok()?;
        Some(self.backends[place].0)
    }
}

impl Member {
    fn backend(self, spec: &Spec<'_>) -> (BackendId, Backend) {
        let Self { address, port, flags, weight: _, id } = self;
        let protocol = spec.protocol.number();
        (BackendId { family: spec.view.family, id }, Backend { address, port, protocol, flags, service: spec.id })
    }

    fn maglev(&self) -> maglev::Member {
        maglev::Member { address: self.address, port: self.port, weight: self.weight, id: self.id }
    }
}
