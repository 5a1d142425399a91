//! Connections of others.

use std::net::SocketAddr;

use brattice_abi::DropReason::{FromReserved, SpoofedSource};
use brattice_tests::{
    client::{Connection, connect_from},
    lab::wait_until,
};

use super::{
    link::{PRIORITY, tagged},
    scene::Scene,
    sender::{ACK, PATIENCE, PSH, RST, Segment, Sender, host},
};

/// RST, ACK and data into a connection of its neighbour, with its exact numbers: as the neighbour, as the service, and from
/// the same port as itself. The neighbour's connection, and one of the equal address in another VPC, live on.
pub(super) fn segments_into_them(scene: &Scene) {
    for family in scene.families() {
        let host = host(family.vip);
        scene.neighbour_watch.all();
        let mut open = scene.neighbour_connects(family.vip);
        open.nonce("before").unwrap();
        let twin = scene.green.namespace.enter(|| connect_from(40_001, family.vip)).unwrap();
        let mut twin = Connection::new(twin).with_host(host);
        twin.nonce("before").unwrap();
        let local = open.stream().local_addr().unwrap();
        let seen: Vec<Segment> = scene.neighbour_watch.all().iter().filter_map(|frame| Segment::of(frame)).collect();
        let last = |from: SocketAddr| seen.iter().rev().find(|s| s.from == from).cloned().expect("an open connection");
        // What each side would send next.
        let mut of_client = last(local);
        of_client.sequence = of_client.sequence.wrapping_add(of_client.data.len() as u32);
        let mut of_service = last(family.vip);
        of_service.sequence = of_service.sequence.wrapping_add(of_service.data.len() as u32);
        (of_client.acknowledgment, of_service.acknowledgment) = (of_service.sequence, of_client.sequence);
        let forged =
            |segment: &Segment| {
                [(RST | ACK, &b""[..]), (ACK, b""), (ACK | PSH, b"GET /forged HTTP/1.1\r\n")]
                    .map(|(flags, data)| Segment { flags, data: data.to_vec(), ..segment.clone() })
            };
        // As they are, and behind tags that only give a priority.
        let times = 3 * (1 + PRIORITY.len() as u64);
        scene.refused(&[(SpoofedSource, times), (FromReserved, times)], || {
            for tags in PRIORITY.into_iter().chain([&[][..]]) {
                for segment in forged(&of_client) {
                    scene.sender.send_segment(&segment, |frame| tagged(frame, tags));
                }
                let to_neighbour = |frame: &mut Vec<u8>| {
                    frame[..6].copy_from_slice(&scene.neighbour_watch.mac);
                    tagged(frame, tags);
                };
                for segment in forged(&of_service) {
                    scene.sender.send_segment(&segment, to_neighbour);
                }
            }
        });
        // With an address of its own it is another peer: its alias.
        scene.refused(&[], || {
            for port in [local.port(), 40_001] {
                let own = Segment { from: (family.own, port).into(), ..of_client.clone() };
                for segment in forged(&own) {
                    scene.sender.send_segment(&segment, |_| {});
                }
            }
        });
        open.nonce("after").unwrap();
        twin.nonce("after").unwrap();
        // The numbers were right: from where they belong, they end the connection.
        let seen: Vec<Segment> = scene.neighbour_watch.all().iter().filter_map(|frame| Segment::of(frame)).collect();
        let next = seen.iter().rev().find(|s| s.from == local).expect("it went on");
        let rst = Segment {
            sequence: next.sequence.wrapping_add(next.data.len() as u32),
            flags: RST | ACK,
            data: Vec::new(),
            ..next.clone()
        };
        let neighbour = Sender::of(&scene.neighbour);
        neighbour.send_segment(&rst, |_| {});
        wait_until("its own RST is taken", PATIENCE, || open.nonce("ended").is_err());
    }
}
