//! Facts from a kernel and a root directory.

use brattice_loader::coexistence::{Verdict, detect, gather};

use crate::testbed::{Testbed, sh, testbed};

/// Names of the neighbours that are found below a root, without what this machine runs itself.
async fn found(root: &std::path::Path) -> Vec<(&'static str, Verdict)> {
    let mut facts = gather(root).await.unwrap();
    assert_eq!(facts.unread, Vec::<String>::new());
    facts.processes.clear();
    facts.cgroup_programs.clear();
    detect(&facts).iter().map(|finding| (finding.name, finding.verdict)).collect()
}

#[test]
fn neighbours_are_recognised_by_their_runtime_files() {
    testbed(async |_: Testbed| {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        };
        assert_eq!(found(root.path()).await, []);
        put("run/systemd/netif/state");
        assert_eq!(found(root.path()).await, [("systemd-networkd", Verdict::WorksBut)]);
        put("run/NetworkManager/NetworkManager.pid");
        put("etc/cni/net.d/10-calico.conflist");
        put("etc/cni/net.d/05-cilium.conflist.cilium_bak");
        assert_eq!(
            found(root.path()).await,
            [
                ("Calico", Verdict::WorksBut),
                ("systemd-networkd", Verdict::WorksBut),
                ("NetworkManager", Verdict::WorksBut)
            ]
        );
    });
}

#[test]
fn neighbours_are_recognised_in_the_kernel() {
    testbed(async |testbed: Testbed| {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(found(root.path()).await, []);
        let datapath = testbed.start().await;
        assert_eq!(found(root.path()).await, [], "we are no neighbour");
        drop(datapath);
        sh("ip link add docker0 type bridge && ip link add cali1 type veth peer name p1");
        sh("ip rule add pref 5270 lookup 52 && ip -6 rule add pref 5270 lookup 52");
        sh("nft add table ip kube-proxy && nft add chain ip kube-proxy services");
        sh("nft add table inet firewalld && nft add chain inet firewalld filter_INPUT");
        sh("ip link set p1 up && ip link set cali1 up && ip route add 169.254.171.0/24 dev cali1");
        let names: Vec<_> = found(root.path()).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Calico", "AWS VPC Lattice", "kube-proxy (nftables)", "Docker", "firewalld", "Tailscale"]);
    });
}
