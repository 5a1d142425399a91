//! The header fields that tell targets about caller and route.

use brattice_wire::{engine::Limits, snapshot::ProtocolVersion};
use http::HeaderMap;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::{scene::*, support::*};

const OURS: [&str; 5] = [
    "x-amzn-lattice-identity",
    "x-amzn-lattice-identity-tags",
    "x-amzn-lattice-network",
    "x-amzn-lattice-target",
    "x-amzn-source-vpc",
];

/// The fields about a caller, in the order of [`OURS`]; each at most once.
fn fields(headers: &HeaderMap) -> [Option<&str>; 5] {
    OURS.map(|name| {
        let mut all = headers.get_all(name).iter();
        let first = all.next().map(|value| value.to_str().unwrap());
        assert!(all.next().is_none(), "{name} twice");
        first
    })
}

#[tokio::test]
async fn targets_are_told_who_calls_by_which_way() {
    for to in [ProtocolVersion::Http1, ProtocolVersion::Http2] {
        let server = Server::echo(to == ProtocolVersion::Http2).await;
        let engine = Engine::start(Limits::default());
        engine.apply(guarded(&engine, 1, to, &[server.address], &[EVERYBODY])).await;
        let network = Some("SourceVpcArn=arn:aws:ec2:us-west-2:444444444444:vpc/vpc-blue");
        let target = Some(
            "ServiceArn=arn:aws:vpc-lattice:us-west-2:111111111111:service/svc-orders;\
             ServiceNetworkArn=arn:aws:vpc-lattice:us-west-2:333333333333:servicenetwork/sn-1;\
             TargetGroupArn=arn:aws:vpc-lattice:us-west-2:111111111111:targetgroup/tg-orders",
        );
        let identity = "Principal=arn:aws:sts::222222222222:assumed-role/web/web-1; PrincipalOrgID=o-corp; \
                        PrincipalOrgPath=o-corp/r-1/ou-1/; SessionName=web-1; Type=AWS_IAM";
        let tags = "principal=arn:aws:sts::222222222222:assumed-role/web/web-1;principalorgid=o-corp;\
                    principalorgpath=o-corp/r-1/ou-1/;team=front;note=a\\;b";
        for (from, identity, tags) in [(CALLER, Some(identity), Some(tags)), (NEIGHBOUR, None, None)] {
            for http2 in [false, true] {
                // Twice, as the second time is from what is kept.
                for _ in 0..2 {
                    let response = if http2 {
                        engine.http2(from).await.send_request(get2("/")).await.unwrap()
                    } else {
                        engine.http1(from).await.send_request(get("/")).await.unwrap()
                    };
                    response.into_body().collect().await.unwrap();
                    assert_eq!(fields(&server.last().headers), [identity, tags, network, target, Some("vpc-blue")]);
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_said_is_true_where_nothing_is_decided_too() {
    let server = Server::echo(false).await;
    let engine = Engine::start(Limits::default());
    engine.apply(open(&engine, 1, ProtocolVersion::Http1, &[server.address])).await;
    engine.get("/").await;
    let headers = server.last().headers;
    let [identity, _, network, target, _] = fields(&headers);
    assert!(identity.unwrap().starts_with(&format!("Principal={SESSION}; ")));
    assert!(network.is_some() && target.unwrap().contains("ServiceNetworkArn="));
}

/// The next revision's identity is used on a connection that is kept.
#[tokio::test]
async fn a_role_that_changes_is_said_from_the_next_request() {
    let server = Server::echo(false).await;
    let engine = serving(&[server.address], &[EVERYBODY]).await;
    let mut client = engine.http1(CALLER).await;
    for (revision, session) in [(2, "web-1"), (3, "web-2"), (4, "")] {
        let mut world = guarded(&engine, revision, ProtocolVersion::Http1, &[server.address], &[EVERYBODY]);
        world.workloads[0].session = session.into();
        if session.is_empty() {
            world.workloads[0].role = None;
        }
        engine.apply(world).await;
        client.ready().await.unwrap();
        client.send_request(get("/")).await.unwrap().into_body().collect().await.unwrap();
        let headers = server.last().headers;
        let expected =
            (!session.is_empty()).then(|| format!("Principal=arn:aws:sts::222222222222:assumed-role/web/{session}; "));
        assert_eq!(fields(&headers)[0].is_some(), expected.is_some());
        assert!(expected.is_none_or(|expected| fields(&headers)[0].unwrap().starts_with(&expected)), "{headers:?}");
    }
}

#[tokio::test]
async fn targets_say_none_of_it() {
    let target = raw_server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nX-Amzn-Lattice-Identity: 1\r\nx_amzn_lattice_network: 1\r\nx.amzn.lattice.target: 1\r\n\
            x-amzn-lattice: 1\r\nx-harmless: 1\r\ntransfer-encoding: chunked\r\ntrailer: x-amzn-lattice-identity\r\n\r\n\
            2\r\nok\r\n0\r\nx-amzn-lattice-identity: 1\r\nx_amzn_lattice_tags: 1\r\nx-checksum: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let engine = serving(&[target], &[EVERYBODY]).await;
    let response = engine.http2(CALLER).await.send_request(get2("/")).await.unwrap();
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap();
    for fields in [&headers, &trailers] {
        let ours: Vec<_> = fields.keys().filter(|name| name.as_str().contains("lattice")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
    assert!(headers.contains_key("x-harmless") && trailers.contains_key("x-checksum"), "control");
}
