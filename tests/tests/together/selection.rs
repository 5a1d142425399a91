//! Workloads that no name leads to: in a namespace that only a process holds, found by its cgroup or by a path.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use brattice_tests::lab::{Lab, NODE, Retail, SETTLE, VIP_RANGE, cgroup_root, forward, service, wait_until};

/// A container as a runtime makes one: a process in a network namespace and a cgroup of its own, and a veth moved to it by
/// its number. No name in `/run/netns`.
struct Container {
    process: Child,
    cgroup: PathBuf,
}

impl Container {
    /// `name`: of the cgroup, below the root of the hierarchy.
    fn start(lab: &Lab, name: &str, interface: &str, address: &str) -> Self {
        let cgroup = cgroup_root().join(name);
        fs::create_dir(&cgroup).expect("a cgroup of our own");
        let process = Command::new("unshare")
            .args(["--net", "sleep", "300"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare is there");
        let container = Self { process, cgroup };
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        wait_until("the container has its namespace", SETTLE, || {
            fs::read_link(container.path()).is_ok_and(|there| there != own)
        });
        let pid = container.process.id();
        lab.node.ip(&format!("link add {interface} type veth peer name eth0 netns {pid}"));
        lab.node.ip(&format!("link set {interface} up"));
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {address}/16 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add {VIP_RANGE} dev eth0"),
        ] {
            container.inside(&format!("ip {line}"));
        }
        container
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.process.id())
    }

    fn enter(&self) {
        fs::write(self.cgroup.join("cgroup.procs"), self.process.id().to_string()).expect("moved");
    }

    /// Output of a command inside; empty when it failed.
    fn inside(&self, line: &str) -> String {
        let net = format!("--net={}", self.path());
        let output = Command::new("nsenter").arg(net).args(line.split(' ')).output().expect("nsenter is there");
        if output.status.success() { String::from_utf8_lossy(&output.stdout).into_owned() } else { String::new() }
    }

    /// Whether `orders` answers it.
    fn served(&self, vip: std::net::SocketAddr) -> bool {
        self.inside(&format!("curl -s --max-time 1 -o /dev/null -w %{{http_code}} http://{vip}/")) == "200"
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for _ in 0..100 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn documented(place: &str) -> String {
    format!("{NODE}---\nkind: Workload\nmetadata: {{name: till}}\nspec: {{vpcIdentifier: platform/blue, {place}}}\n")
}

fn shown(lab: &Lab) -> (String, String) {
    let till = lab.workloads().into_iter().find(|workload| workload.name == "till");
    till.map(|till| (till.state, till.reason.unwrap_or_default())).unwrap_or_default()
}

#[test]
fn a_container_is_found_by_its_cgroup_when_it_enters_and_let_go_when_it_leaves() {
    let retail = Retail::prepare(&service(&forward(1, 0)));
    let (scope, mut retail) = (format!("{}-till.scope", retail.lab.id), retail);
    let till = Container::start(&retail.lab, &scope, "c0", "10.0.0.50");
    retail.lab.write("node.yaml", &documented(&format!("namespaceCgroup: {scope}")));
    retail.lab.start_agent();
    let (lab, vip) = (&retail.lab, retail.orders());
    wait_until("the document means nothing yet", SETTLE, || shown(lab).1.contains("NoInterface"));
    assert!(!till.served(vip));
    till.enter();
    wait_until("it is attached by the event", Duration::from_secs(3), || shown(lab).0 == "attached");
    assert!(till.served(vip));
    let explained = lab.brattice(&["explain", "--from", "till", "--to", "shop/orders"]);
    assert!(explained.ok() && explained.stdout.contains(&scope), "{}", explained.text());
    // A second namespace in the same cgroup: it is ambiguous which is meant.
    let other = Container::start(lab, &format!("{scope}-2"), "c1", "10.0.0.51");
    fs::write(till.cgroup.join("cgroup.procs"), other.process.id().to_string()).unwrap();
    wait_until("two are ambiguous", SETTLE, || shown(lab).1.contains("AmbiguousWorkload"));
    drop(other);
    wait_until("one is not", SETTLE, || shown(lab).0 == "attached");
    // It leaves its cgroup for another.
    let elsewhere = cgroup_root().join(format!("{scope}-3"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("cgroup.procs"), till.process.id().to_string()).unwrap();
    wait_until("it is let go", Duration::from_secs(3), || shown(lab).1.contains("NoInterface"));
    let served = till.served(vip);
    drop(till);
    wait_until("the cgroup is removed", SETTLE, || fs::remove_dir(&elsewhere).is_ok());
    assert!(!served);
}

#[test]
fn a_container_is_found_by_its_path_and_bad_paths_are_told() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let till = Container::start(&retail.lab, &format!("{}-path.scope", retail.lab.id), "c0", "10.0.0.50");
    retail.lab.write("node.yaml", &documented(&format!("namespacePath: {}", till.path())));
    retail.lab.start_agent();
    let (lab, vip) = (&retail.lab, retail.orders());
    wait_until("it is attached", SETTLE, || shown(lab).0 == "attached");
    assert!(till.served(vip));
    let mounted = lab.folder.join("mounted");
    let link = lab.folder.join("link");
    fs::write(&mounted, "").unwrap();
    std::os::unix::fs::symlink(till.path(), &link).unwrap();
    let node = format!("/run/netns/{}", lab.node.name);
    for (path, code) in [
        (mounted.display().to_string(), "NotANamespace"),
        (link.display().to_string(), "NotANamespace"),
        (node, "HostNamespace"),
        (lab.folder.join("gone").display().to_string(), "NoInterface"),
    ] {
        lab.write("node.yaml", &documented(&format!("namespacePath: {path}")));
        wait_until(&format!("{path} is refused"), SETTLE, || {
            shown(lab).1.contains(code) && shown(lab).1.contains(&path)
        });
        assert!(!till.served(vip), "{path}");
    }
    // A runtime mounts the namespace.
    let mounted = mounted.display().to_string();
    lab.write("node.yaml", &documented(&format!("namespacePath: {mounted}")));
    wait_until("it is no namespace yet", SETTLE, || shown(lab).1.contains("NotANamespace"));
    brattice_tests::lab::sh(&format!("mount --bind {} {mounted}", till.path()));
    let attached = (0..150).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        shown(lab).0 == "attached"
    });
    let served = till.served(vip);
    brattice_tests::lab::sh(&format!("umount {mounted}"));
    assert!(attached && served, "{:?}", shown(lab));
    // A process that ends, with its namespace held by another.
    lab.write("node.yaml", &documented(&format!("namespacePath: {}", till.path())));
    wait_until("it is attached again", SETTLE, || shown(lab).0 == "attached");
}

#[test]
fn devices_that_cannot_be_attested_are_refused_with_their_reason() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.node.ip("link add link brgreen name blue-mac type macvlan mode bridge");
    retail.lab.node.ip("tuntap add dev blue-tun mode tun");
    retail.lab.node.ip("tuntap add dev blue-tap mode tap");
    retail.lab.node.ip("tuntap add dev guest0 mode tap");
    let guest = "---\nkind: Workload\nmetadata: {name: guest}\nspec: {vpcIdentifier: platform/blue, interface: guest0, addresses: [10.0.0.60], macAddress: \"52:54:00:12:34:56\"}\n";
    retail.lab.write("node.yaml", &format!("{NODE}{guest}"));
    retail.lab.start_agent();
    let lab = &retail.lab;
    let of = |interface: &str| lab.workloads().into_iter().find(|workload| workload.interface == interface);
    for (interface, code) in [("blue-mac", "Macvlan"), ("blue-tun", "Tun"), ("blue-tap", "NoMacAddress")] {
        wait_until(&format!("{interface} is refused"), SETTLE, || {
            of(interface).is_some_and(|own| own.state == "refused" && own.reason.is_some_and(|why| why.contains(code)))
        });
        let preflight = lab
            .brattice_command(&["preflight", "--policies"])
            .arg(lab.policies())
            .arg("--run-dir")
            .arg(lab.run_dir())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&preflight.stdout).into_owned();
        assert!(text.lines().any(|line| line.contains(interface) && line.contains(code)), "{interface}: {text}");
        let explained = lab.brattice(&["explain", "--from", interface, "--to", "shop/orders"]);
        assert!(explained.text().contains(code), "{interface}: {}", explained.text());
    }
    // Positive control: a tap whose document says all, and a veth.
    wait_until("the guest's tap is attached", SETTLE, || of("guest0").is_some_and(|own| own.state == "attached"));
    assert_eq!(of("blue1").unwrap().state, "attached");
    lab.node.ip("link delete guest0");
    wait_until("the tap is gone", SETTLE, || of("guest0").is_none_or(|own| own.state != "attached"));
}
