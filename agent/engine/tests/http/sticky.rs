//! Callers stay at their target group: by cookie, by header, by source.

use std::{collections::HashSet, net::Ipv4Addr};

use brattice_wire::{
    engine::Limits,
    index::TargetGroupIndex,
    snapshot::{Action, Forward, ProtocolVersion, Snapshot, Stickiness, WeightedTargetGroup},
};
use http::{Method, StatusCode};

use crate::support::*;

/// Servers that name themselves.
async fn servers(count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for n in 0..count {
        let answer = move || async move { Ok(http::Response::new(full(n.to_string()))) };
        servers.push(Server::start(n % 2 == 1, TARGET, move |_| answer()).await);
    }
    servers
}

fn world(engine: &Engine, servers: &[Server], weights: &[u16], stickiness: Stickiness) -> Snapshot {
    let mut world = engine.world(ProtocolVersion::Http1, &[]);
    world.target_groups = servers
        .iter()
        .enumerate()
        .map(|(n, server)| group(&format!("g{n}"), version(n % 2 == 1), &[server.address]))
        .collect();
    world.vpcs[1].services = visible(&[0]);
    world.services[0].listeners[0].default_action = Action::Forward(Forward {
        groups: weights
            .iter()
            .enumerate()
            .map(|(n, weight)| WeightedTargetGroup { target_group: TargetGroupIndex::new(n), weight: *weight })
            .collect(),
        stickiness: Some(stickiness),
    });
    world
}

/// The target that answered, and the cookie that came with the response.
async fn who(client: &mut Client, fields: &[(&str, &str)]) -> (String, Option<String>) {
    let (status, headers, body) = client.ask(Method::GET, "/", fields).await;
    assert_eq!(status, StatusCode::OK);
    let cookie = headers.get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
    (String::from_utf8(body.to_vec()).unwrap(), cookie)
}

#[tokio::test]
async fn a_cookie_keeps_its_caller() {
    let servers = servers(2).await;
    let engine = Engine::start(Limits::default());
    let sticky = |max_age_seconds| Stickiness::Cookie { name: "canary".into(), max_age_seconds };
    engine.apply(world(&engine, &servers, &[50, 50], sticky(Some(3600)))).await;
    for http2 in [false, true] {
        let mut client = Client::new(&engine, http2).await;
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let (first, cookie) = who(&mut client, &[]).await;
            let cookie = cookie.expect("a new caller gets a cookie");
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600");
            let value = pair.strip_prefix("canary=").unwrap();
            assert!(value.len() == 16 && !cookie.contains("g0") && !cookie.contains("g1"), "{cookie}");
            for fields in [
                vec![("cookie", format!("a=1; {pair}; b=2"))],
                vec![("cookie", "a=1".into()), ("cookie", pair.to_owned())],
                vec![("cookie", format!("canary=unknown; {pair}"))],
            ] {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                for _ in 0..4 {
                    assert_eq!(who(&mut client, &fields).await, (first.clone(), None), "{fields:?}");
                }
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2, "new callers are spread");
        // What names no group of this rule is no cookie of ours.
        for foreign in ["canary=", "canary=0123456789abcdef", "canary=g0", "xcanary=1", "canary"] {
            assert!(who(&mut client, &[("cookie", foreign)]).await.1.is_some(), "{foreign}");
        }
    }
}

#[tokio::test]
async fn a_cookie_holds_while_its_group_has_weight_and_targets() {
    let servers = servers(2).await;
    let engine = Engine::start(Limits::default());
    let sticky = || Stickiness::Cookie { name: "c".into(), max_age_seconds: None };
    engine.apply(world(&engine, &servers, &[0, 1], sticky())).await;
    let mut client = Client::new(&engine, false).await;
    let (first, cookie) = who(&mut client, &[]).await;
    assert_eq!(first, "1");
    let cookie = cookie.unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let pair = cookie.split_once(';').unwrap().0;
    // Hardly any weight is enough, none is not.
    engine.apply(world(&engine, &servers, &[999, 1], sticky())).await;
    for _ in 0..10 {
        assert_eq!(who(&mut client, &[("cookie", pair)]).await, ("1".into(), None));
    }
    engine.apply(world(&engine, &servers, &[999, 0], sticky())).await;
    let (moved, cookie) = who(&mut client, &[("cookie", pair)]).await;
    assert_eq!(moved, "0");
    assert_ne!(cookie.unwrap().split_once(';').unwrap().0, pair);
    // A group whose targets are gone keeps no caller.
    let mut gone = world(&engine, &servers, &[999, 1], sticky());
    gone.target_groups[1].targets.clear();
    engine.apply(gone).await;
    assert_eq!(who(&mut client, &[("cookie", pair)]).await.0, "0");
}

#[tokio::test]
async fn a_header_keeps_its_caller_and_a_canary_only_grows() {
    let servers = servers(2).await;
    let engine = Engine::start(Limits::default());
    let sticky = || Stickiness::Header("x-user".into());
    let mut homes: Vec<Option<String>> = vec![None; 60];
    let mut canaries = Vec::new();
    for weights in [[90, 10], [50, 50], [10, 90]] {
        engine.apply(world(&engine, &servers, &weights, sticky())).await;
        let mut count = 0;
        for (n, home) in homes.iter_mut().enumerate() {
            let user = format!("user-{n}");
            let mut seen = HashSet::new();
            for http2 in [false, true] {
                let mut client = Client::new(&engine, http2).await;
                let (server, cookie) = who(&mut client, &[("x-user", &user)]).await;
                assert_eq!(cookie, None);
                seen.insert(server);
            }
            assert_eq!(seen.len(), 1, "{user} is at one group");
            let now = seen.into_iter().next().unwrap();
            assert!(home.as_deref() != Some("1") || now == "1", "{user} left the canary while it grew");
            count += usize::from(now == "1");
            *home = Some(now);
        }
        canaries.push(count);
    }
    assert!(canaries.is_sorted() && canaries[0] < 20 && canaries[2] > 40, "{canaries:?}");
    // Several fields are one value, and a caller without one is spread by weight.
    let mut client = Client::new(&engine, false).await;
    let (list, _) = who(&mut client, &[("x-user", "a, b")]).await;
    assert_eq!(who(&mut client, &[("x-user", "a"), ("x-user", "b")]).await.0, list);
    engine.apply(world(&engine, &servers, &[1, 1], sticky())).await;
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(who(&mut client, &[]).await.0);
    }
    assert_eq!(seen.iter().filter(|server| *server == "1").count(), 5, "{seen:?}");
}

#[tokio::test]
async fn a_source_keeps_its_workload() {
    let servers = servers(2).await;
    let engine = Engine::start(Limits::default());
    let mut world = world(&engine, &servers, &[1, 1], Stickiness::Source);
    // Workloads by real address, two of them with the same one in different VPCs.
    let aliases: Vec<Ipv4Addr> = (1..=40).map(|n| Ipv4Addr::new(127, 10, 1, n)).collect();
    world.workloads = (0u8..)
        .zip(&aliases)
        .map(|(n, alias)| workload(*alias, Ipv4Addr::new(10, 0, 1, n / 2), usize::from(n % 2), 100 + u32::from(n)))
        .collect();
    engine.apply(world.clone()).await;
    let mut homes = Vec::new();
    for alias in &aliases {
        let mut seen = HashSet::new();
        for http2 in [false, true] {
            // Each on a connection of its own.
            let mut client = Client::of(&engine, http2, *alias).await;
            seen.insert(who(&mut client, &[]).await.0);
            seen.insert(who(&mut client, &[("x-forwarded-for", "1.2.3.4")]).await.0);
        }
        assert_eq!(seen.len(), 1, "{alias} is at one group");
        homes.extend(seen);
    }
    let canaries = homes.iter().filter(|home| *home == "1").count();
    assert!((8..=32).contains(&canaries), "{canaries} of 40");
    assert!(homes.chunks(2).any(|pair| pair[0] != pair[1]), "the VPC counts, too");
    // A caller that gets another alias, or calls after a restart, keeps its group.
    let other = Engine::start(Limits::default());
    world.revision = 2;
    world.services[0].listeners[0].port = other.port;
    for (workload, n) in world.workloads.iter_mut().zip(1..) {
        workload.alias = Ipv4Addr::new(127, 10, 2, n).into();
    }
    other.apply(world).await;
    for (n, home) in (1..).zip(&homes) {
        let mut client = Client::of(&other, false, Ipv4Addr::new(127, 10, 2, n)).await;
        assert_eq!(who(&mut client, &[]).await.0, *home);
    }
}
