//! Who gets a frontend that several services ask for.
//!
//! The Service with the smaller creation time, then the smaller name, then the smaller port: nothing that depends on
//! the order of arrival. Whoever loses waits, and has the frontend when the winner goes.

use std::collections::{BTreeMap, BTreeSet};

use lb_ebpf::abi::frontend::Word;

use super::{frontends::Via, state::Frontend};
use crate::ids::PortName;

/// One service port that asks for a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// When its Service was created; what has no time counts as newest.
    pub(crate) created: i128,
    /// The service port.
    pub(crate) port: PortName,
    /// Its number.
    pub(crate) service: u32,
    /// What the frontend is to it.
    pub(crate) via: Via,
    /// What it would publish.
    pub(crate) word: Word,
}

impl Claim {
    fn rank(&self) -> (i128, &PortName) {
        (self.created, &self.port)
    }
}

/// All claims by frontend, the winner first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    by_frontend: BTreeMap<Frontend, Vec<Claim>>,
    contested: BTreeSet<Frontend>,
}

impl Claims {
    /// Enters a claim, in place of an older one of the same service port.
    pub(crate) fn set(&mut self, frontend: Frontend, claim: Claim) {
        let claims = self.by_frontend.entry(frontend).or_insert_with(|| Vec::with_capacity(1));
        claims.retain(|other| other.service != claim.service);
        let place = claims.partition_point(|other| other.rank() < claim.rank());
        claims.insert(place, claim);
        if claims.len() > 1 {
            self.contested.insert(frontend);
        } else {
            self.contested.remove(&frontend);
        }
    }

    /// Withdraws the claim of a service port.
    pub(crate) fn withdraw(&mut self, frontend: &Frontend, service: u32) {
        let Some(claims) = self.by_frontend.get_mut(frontend) else { return };
        claims.retain(|claim| claim.service != service);
        if claims.len() < 2 {
            self.contested.remove(frontend);
        }
        if claims.is_empty() {
            self.by_frontend.remove(frontend);
        }
    }

    /// The claim that holds a frontend.
    pub(crate) fn winner(&self, frontend: &Frontend) -> Option<&Claim> {
        self.by_frontend.get(frontend)?.first()
    }

    /// Each claim that lost, with its frontend and the winner.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (&Frontend, &Claim, &Claim)> {
        self.contested.iter().flat_map(|frontend| {
            let claims = &self.by_frontend[frontend];
            claims.iter().skip(1).map(move |claim| (frontend, claim, &claims[0]))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::*;
    use crate::model::{Name, addr::Protocol};

    fn claim(created: Option<i128>, name: &str, service: u32) -> Claim {
        let port = PortName { service: Arc::new(Name::new("default", name)), port: 80, protocol: Protocol::Tcp };
        Claim { created: created.unwrap_or(i128::MAX), port, service, via: Via::ClusterIp, word: Word(service.into()) }
    }

    #[test]
    fn the_oldest_wins_in_any_order_of_arrival() {
        let vip = Frontend::internal(IpAddr::from([10, 96, 0, 1]), 80, Protocol::Tcp);
        for (name, a, b, want) in [
            ("by creation time", claim(Some(1), "b", 1), claim(Some(2), "a", 2), 1),
            ("a missing time is the newest", claim(None, "a", 1), claim(Some(9), "b", 2), 2),
            ("ties go by name", claim(Some(1), "b", 1), claim(Some(1), "a", 2), 2),
            ("no times at all", claim(None, "a", 1), claim(None, "b", 2), 1),
        ] {
            for pair in [[&a, &b], [&b, &a]] {
                let mut claims = Claims::default();
                pair.iter().for_each(|claim| claims.set(vip, (*claim).clone()));
                assert_eq!(claims.winner(&vip).unwrap().service, want, "{name}");
                assert_eq!(claims.lost().map(|(_, loser, _)| loser.service).collect::<Vec<_>>(), [3 - want], "{name}");
                claims.withdraw(&vip, want);
                assert_eq!(claims.winner(&vip).unwrap().service, 3 - want, "{name}: the loser follows");
                assert_eq!(claims.lost().count(), 0, "{name}");
            }
        }
    }
}
