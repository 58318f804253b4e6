//! Maps that are full: whoever does not fit is named, and harms nobody else.

use lb_tests::{
    ask::{PATIENCE, Wrong, eventually},
    lab::{
        Lab,
        agent::AgentOptions,
        client::{Client, Dial, Protocol},
        object::Object,
    },
};
use nix::sys::signal::Signal::SIGTERM;

use crate::{WEB, at, service, up, who};

/// Whether a connect there is refused at once.
fn refuses(client: &mut Client, to: &str) -> bool {
    let dial = Dial { timeout_ms: 300, ..Dial::new(at(to), Protocol::Tcp, 1) };
    client.dial(dial).expect("is possible").remove(0).outcome() == "ECONNREFUSED"
}

/// What each of many services comes to in a map of sixteen entries, which does not hold them all.
fn crowd(lab: &mut Lab, client: &mut Client, count: usize, what: &str, map: &str) {
    let name = |index: usize| format!("crowd-{index:02}");
    let objects = |index: usize| {
        Object::parse_all(&service(&name(index), &format!("10.96.1.{index}"), "80", "", "10.244.2.10")).unwrap()
    };
    lab.end_agent("node-a", SIGTERM).unwrap();
    let options = AgentOptions { config: Some(format!("maps: {{{what}: 16}}")), ..AgentOptions::default() };
    lab.start_agent_with("node-a", options).unwrap().wait_ready(PATIENCE).unwrap();
    assert!(who(client, WEB).is_some(), "{what}");
    for index in 0..count {
        lab.apply(objects(index)).unwrap();
    }
    // Whoever is not served is named, and whoever is not named is served.
    let refused = |lab: &Lab| {
        let wrong = lab.wrong("node-a").unwrap();
        let full: Vec<Wrong> = wrong.into_iter().filter(|wrong| wrong.kind == "MapFull").collect();
        let objects = full.iter().map(|wrong| wrong.object.clone());
        (objects.collect::<std::collections::BTreeSet<_>>(), full)
    };
    let rows = |lab: &Lab| lab.asked("node-a", &["service", "list"]).unwrap();
    eventually(&format!("{what}: the agent has seen them all"), || {
        (rows(lab).as_array().unwrap().iter().filter(|row| row["name"].as_str().unwrap().starts_with("crowd")).count()
            + refused(lab).0.len()
            >= count)
            .then_some(())
    });
    let settled = eventually(&format!("{what}: settled"), || {
        let (names, full) = refused(lab);
        let served = |index: &usize| match map {
            // A Service without its address is dialled all the same; that its other ports are closed is what it lacks.
            "addresses4" => refuses(client, &format!("10.96.1.{index}:81")),
            _ => who(client, &format!("10.96.1.{index}:80")).is_some(),
        };
        let (yes, no): (Vec<usize>, Vec<usize>) = (0..count).partition(served);
        let right = yes.iter().all(|index| !names.contains(&format!("Service default/{}", name(*index))))
            && no.iter().all(|index| names.contains(&format!("Service default/{}", name(*index))));
        (right && !no.is_empty()).then_some((yes, no, full))
    });
    let (served, left_out, full) = settled;
    println!("{what}: {} of {count} are served; {}", served.len(), full[0].message);
    assert!(served.len() >= left_out.len(), "{what}: {served:?}");
    assert!(full.iter().all(|wrong| wrong.message.contains(map)), "{what}: {full:?}");
    assert!(who(client, WEB).is_some(), "{what}: the services that were there before go on");
    if map == "addresses4" {
        let dialled = (0..count).filter(|index| who(client, &format!("10.96.1.{index}:80")).is_some());
        assert_eq!(dialled.count(), count, "{what}");
    }

    // Room for all that were left out.
    for index in served.iter().take(left_out.len()) {
        lab.delete(&objects(*index)).unwrap();
    }
    eventually(&format!("{what}: cured"), || {
        let all = left_out.iter().all(|index| who(client, &format!("10.96.1.{index}:80")).is_some());
        (all && refused(lab).0.is_empty()).then_some(())
    });
    for index in (0..count).filter(|index| !served[..left_out.len()].contains(index)) {
        lab.delete(&objects(index)).unwrap();
    }
    eventually(&format!("{what}: as before"), || {
        (!rows(lab).as_array().unwrap().iter().any(|row| row["name"].as_str().unwrap().starts_with("crowd")))
            .then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn full_maps() {
    // The arena starts small and grows: nobody is left out, and tables larger than all of it are published.
    let mut lab = up("{maps: {arenaLines: 64}, defaultAlgorithm: maglev, maglevTableSize: 1021}");
    let mut client = lab.client("default/caller").expect("a client starts");
    lab.wait_until("node-a", "the arena has grown", |wrong| wrong.is_empty().then_some(()));
    eventually("web is served", || who(&mut client, WEB));
    let status = lab.agent("node-a").unwrap().status().unwrap();
    let arena = status["maps"].as_array().unwrap().iter().find(|map| map["name"] == "arena").unwrap().clone();
    let (used, capacity) = (arena["used"].as_u64().unwrap(), arena["capacity"].as_u64().unwrap());
    assert!(used > 64 && used <= capacity, "{arena}");

    crowd(&mut lab, &mut client, 18, "frontends", "frontends4");
    crowd(&mut lab, &mut client, 13, "backends", "backend");
    crowd(&mut lab, &mut client, 20, "addresses", "addresses4");
}
