//! The model follows events, and says what each one touched.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    mem,
};

use super::{Event, Kind, Model, Name, Object, ObjectRef, endpoint::EndpointSlice};

/// What an event changed. An event that repeats what is known changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services whose object or slices changed, the created and the deleted ones too. A name without a Service is one
    /// whose slices came first or went last.
    pub services: BTreeSet<Name>,
    /// A node changed.
    pub nodes: bool,
    /// A pod changed.
    pub pods: bool,
    /// A ServiceCIDR changed.
    pub service_cidrs: bool,
}

impl Changes {
    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another event changed.
    pub fn merge(&mut self, other: Self) {
        let Self { mut services, nodes, pods, service_cidrs } = other;
        self.services.append(&mut services);
        self.nodes |= nodes;
        self.pods |= pods;
        self.service_cidrs |= service_cidrs;
    }
}

impl Model {
    /// Follows one event.
    pub fn apply(&mut self, event: Event) -> Changes {
        let mut changes = Changes::default();
        match event {
            Event::Apply(object) => self.insert(object, &mut changes),
            Event::Delete(reference) => self.remove(&reference, &mut changes),
            Event::Reset(objects) => {
                let mut next = Self::default();
                for object in objects {
                    next.insert(object, &mut Changes::default());
                }
                changes = self.difference(&next);
                *self = next;
            }
        }
        changes
    }

    fn insert(&mut self, object: Object, changes: &mut Changes) {
        match object {
            Object::Service(service) => {
                let name = service.name.clone();
                if replace(&mut self.services, name.clone(), service) {
                    changes.services.insert(name);
                }
            }
            Object::EndpointSlice(slice) => self.insert_slice(slice, changes),
            Object::Node(node) => changes.nodes |= replace(&mut self.nodes, node.name.clone(), node),
            Object::Pod(pod) => changes.pods |= replace(&mut self.pods, pod.name.clone(), pod),
            Object::ServiceCidr(name, ranges) => {
                changes.service_cidrs |= replace(&mut self.service_cidrs, name.name, ranges);
            }
        }
    }

    fn insert_slice(&mut self, slice: EndpointSlice, changes: &mut Changes) {
        let owner = slice.service.clone();
        if self.owners.get(&slice.name).is_some_and(|before| *before != owner) {
            self.remove_slice(&slice.name, changes);
        }
        self.owners.insert(slice.name.clone(), owner.clone());
        if replace(self.slices.entry(owner.clone()).or_default(), slice.name.name.clone(), slice) {
            changes.services.insert(owner);
        }
    }

    fn remove(&mut self, reference: &ObjectRef, changes: &mut Changes) {
        let name = &reference.name;
        match reference.kind {
            Kind::Service => {
                if self.services.remove(name).is_some() {
                    changes.services.insert(name.clone());
                }
            }
            Kind::EndpointSlice => self.remove_slice(name, changes),
            Kind::Node => changes.nodes |= self.nodes.remove(&name.name).is_some(),
            Kind::Pod => changes.pods |= self.pods.remove(name).is_some(),
            Kind::ServiceCidr => changes.service_cidrs |= self.service_cidrs.remove(&name.name).is_some(),
        }
    }

    fn remove_slice(&mut self, name: &Name, changes: &mut Changes) {
        let Some(owner) = self.owners.remove(name) else { return };
        if let btree_map::Entry::Occupied(mut slices) = self.slices.entry(owner.clone()) {
            slices.get_mut().remove(&name.name);
            if slices.get().is_empty() {
                slices.remove();
            }
        }
        changes.services.insert(owner);
    }

    fn difference(&self, next: &Self) -> Changes {
        let mut services = BTreeSet::new();
        differing(&self.services, &next.services, &mut services);
        differing(&self.slices, &next.slices, &mut services);
        Changes {
            services,
            nodes: self.nodes != next.nodes,
            pods: self.pods != next.pods,
            service_cidrs: self.service_cidrs != next.service_cidrs,
        }
    }
}

/// Puts `value` at `key`; true if that changed anything.
fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    match map.entry(key) {
        btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
        btree_map::Entry::Occupied(mut entry) => mem::replace(entry.get_mut(), value) != *entry.get(),
    }
}

/// Adds the keys whose values differ, or that only one side has.
fn differing<V: PartialEq>(before: &BTreeMap<Name, V>, after: &BTreeMap<Name, V>, out: &mut BTreeSet<Name>) {
    out.extend(before.iter().filter(|(name, value)| after.get(name) != Some(value)).map(|(name, _)| name.clone()));
    out.extend(after.keys().filter(|name| !before.contains_key(name)).cloned());
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::model::{
        addr::{Cidr, Family},
        node::{Node, Pod},
        service::{Service, TrafficPolicy},
    };

    fn service(name: &str, version: u8) -> Object {
        Object::Service(Service {
            name: Name::new("default", name),
            created: Some(version.into()),
            cluster_ips: vec![],
            external_ips: vec![],
            load_balancer_ips: vec![],
            ports: vec![],
            external: false,
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Cluster,
            affinity_seconds: None,
            source_ranges: BTreeSet::new(),
            algorithm: None,
            health_check_node_port: 0,
            publish_not_ready_addresses: false,
        })
    }

    fn slice(name: &str, service: &str, version: u8) -> Object {
        Object::EndpointSlice(EndpointSlice {
            name: Name::new("default", name),
            service: Name::new("default", service),
            family: Family::V4,
            ports: vec![],
            endpoints: vec![],
            weights: BTreeMap::new(),
            triggered: Some(version.into()),
        })
    }

    fn node(name: &str, version: u8) -> Object {
        Object::Node(Node {
            name: name.to_owned(),
            internal_ips: vec![],
            external_ips: vec![],
            pod_cidrs: vec![],
            zone: Some(version.to_string()),
            leaving: false,
        })
    }

    fn pod(name: &str, version: u8) -> Object {
        Object::Pod(Pod {
            name: Name::new("default", name),
            node: version.to_string(),
            ips: vec![],
            host_network: false,
            finished: false,
        })
    }

    fn range(name: &str, version: u8) -> Object {
        let range: Cidr = format!("10.{version}.0.0/16").parse().unwrap();
        Object::ServiceCidr(Name::new("", name), vec![range])
    }

    fn touched(services: &[&str]) -> Changes {
        Changes { services: services.iter().map(|name| Name::new("default", *name)).collect(), ..Changes::default() }
    }

    #[test]
    fn apply_names_what_changed() {
        let delete = |object: Object| Event::Delete(object.reference());
        let mut model = Model::default();
        for (name, event, want) in [
            ("a new service", Event::Apply(service("web", 1)), touched(&["web"])),
            ("the same again", Event::Apply(service("web", 1)), Changes::default()),
            ("a new version", Event::Apply(service("web", 2)), touched(&["web"])),
            ("a slice", Event::Apply(slice("web-1", "web", 1)), touched(&["web"])),
            ("the same slice", Event::Apply(slice("web-1", "web", 1)), Changes::default()),
            ("a slice that moves", Event::Apply(slice("web-1", "api", 1)), touched(&["api", "web"])),
            ("a slice that goes", delete(slice("web-1", "web", 1)), touched(&["api"])),
            ("what is gone already", delete(slice("web-1", "web", 1)), Changes::default()),
            ("a service that goes", delete(service("web", 1)), touched(&["web"])),
            ("a node", Event::Apply(node("n1", 1)), Changes { nodes: true, ..Changes::default() }),
            ("a pod", Event::Apply(pod("p1", 1)), Changes { pods: true, ..Changes::default() }),
            ("a range", Event::Apply(range("main", 1)), Changes { service_cidrs: true, ..Changes::default() }),
            ("the pod goes", delete(pod("p1", 1)), Changes { pods: true, ..Changes::default() }),
            ("an unknown pod goes", delete(pod("p1", 1)), Changes::default()),
        ] {
            assert_eq!(model.apply(event), want, "{name}");
        }
        assert!(model.services.is_empty() && model.slices.is_empty() && model.owners.is_empty());
    }

    #[test]
    fn reset_is_one_difference() {
        let mut model = Model::default();
        for object in
            [service("stays", 1), service("goes", 1), service("changes", 1), slice("s", "stays", 1), node("n", 1)]
        {
            model.apply(Event::Apply(object));
        }
        let objects = vec![
            service("stays", 1),
            service("changes", 2),
            slice("s", "stays", 1),
            slice("t", "comes", 1),
            node("n", 1),
        ];
        assert_eq!(model.apply(Event::Reset(objects.clone())), touched(&["changes", "comes", "goes"]));
        assert_eq!(model.apply(Event::Reset(objects)), Changes::default());
    }

    fn any_object() -> impl Strategy<Value = Object> {
        let names = || select(vec!["a", "b", "c"]);
        (0..5u8, names(), names(), 0..3u8).prop_map(|(kind, name, owner, version)| match kind {
            0 => service(name, version),
            1 => slice(name, owner, version),
            2 => node(name, version),
            3 => pod(name, version),
            _ => range(name, version),
        })
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => any_object().prop_map(Event::Apply),
            3 => any_object().prop_map(|object| Event::Delete(object.reference())),
            1 => vec(any_object(), 0..8).prop_map(Event::Reset),
        ]
    }

    /// What exists after these events, kept the plain way.
    fn existing(events: &[Event]) -> Vec<Object> {
        let mut objects = BTreeMap::new();
        for event in events {
            match event {
                Event::Apply(object) => drop(objects.insert(object.reference(), object.clone())),
                Event::Delete(reference) => drop(objects.remove(reference)),
                Event::Reset(all) => objects = all.iter().map(|object| (object.reference(), object.clone())).collect(),
            }
        }
        objects.into_values().collect()
    }

    proptest! {
        #[test]
        fn any_history_with_the_same_end_gives_the_same_model(
            events in vec(any_event(), 0..40),
            order in any::<proptest::sample::Index>(),
        ) {
            let mut model = Model::default();
            for event in &events {
                let before = model.clone();
                let changes = model.apply(event.clone());
                prop_assert_eq!(changes, before.difference(&model), "after {:?}", event);
            }
            let mut objects = existing(&events);
            let (mut reset, mut single) = (Model::default(), Model::default());
            reset.apply(Event::Reset(objects.clone()));
            prop_assert_eq!(&reset, &model);
            if !objects.is_empty() {
                let middle = order.index(objects.len());
                objects.rotate_left(middle);
                objects[..middle].reverse();
            }
            for object in objects {
                single.apply(Event::Apply(object));
            }
            prop_assert_eq!(&single, &model);
        }
    }
}
