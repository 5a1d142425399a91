//! firewalld and ufw themselves, in a node's namespace. `cargo xtask setup` unpacks them aside: installed, they would become
//! this machine's firewall.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use brattice_tests::lab::{Lab, Output, Retail, output, wait_until};

use super::coexistence::{connects, report, serves, verdict};

/// Debian's, which has the modules that both need.
const PYTHON: &str = "/usr/bin/python3";

/// Where they are unpacked.
fn unpacked() -> PathBuf {
    let place = Path::new("../target/tools/firewalls");
    assert!(place.join("usr/sbin/ufw").is_file(), "no {}: run cargo xtask setup", place.display());
    place.canonicalize().unwrap()
}

/// A process that ends with this value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// A command of this name in the lab's folder.
fn script(lab: &Lab, name: &str, text: &str) {
    let folder = lab.folder.join("bin");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a command line in the node, where the lab's own commands are found first.
fn run(lab: &Lab, line: &str) -> Output {
    let path = format!("{}:{}", lab.folder.join("bin").display(), std::env::var("PATH").unwrap());
    output(lab.node.command("sh").args(["-c", line]).env("PATH", path))
}

/// The firewall drops service traffic, preflight knows it by name and prints its own command, and that command repairs it.
fn is_repaired_by_its_own_command(retail: &Retail, name: &str, command: &str) {
    wait_until("the firewall eats service traffic", Duration::from_secs(5), || !connects(retail));
    let (code, message) = report(&retail.lab, &[]);
    assert_eq!((code, verdict(&message, name)), (1, Some("works-but")), "{message}");
    let fixes: Vec<&str> =
        message["probe"]["culprits"].as_array().unwrap().iter().map(|c| c["fix"].as_str().unwrap()).collect();
    assert!(!fixes.is_empty() && fixes.iter().all(|fix| fix.starts_with(command)), "{message}");
    for fix in &fixes {
        let done = run(&retail.lab, fix);
        assert!(done.ok(), "{fix}: {}", done.text());
    }
    serves(retail, 20);
    assert_eq!(report(&retail.lab, &[]).0, 0);
}

#[test]
fn firewalld_is_repaired_by_firewall_cmd_and_stays_so() {
    let retail = Retail::start();
    let lab = &retail.lab;
    serves(&retail, 3);
    let place = unpacked();
    let (bus, configuration) = (lab.folder.join("bus"), lab.folder.join("firewalld"));
    let copied = output(Command::new("cp").arg("-r").arg(place.join("etc/firewalld")).arg(&configuration));
    assert!(copied.ok(), "{}", copied.text());
    let kinds = ["method_call", "method_return", "signal", "error"];
    let rights: String = ["send", "receive"]
        .iter()
        .flat_map(|way| kinds.map(|kind| format!("<allow {way}_type=\"{kind}\"/>")))
        .chain(["<allow user=\"*\"/><allow own=\"*\"/>".to_owned()])
        .collect();
    let policy = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\">{rights}</policy></busconfig>",
        bus.display()
    );
    let policy_file = lab.folder.join("bus.conf");
    fs::write(&policy_file, policy).unwrap();
    let _bus = Daemon::start(
        Command::new("dbus-daemon")
            .arg(format!("--config-file={}", policy_file.display()))
            .args(["--nofork", "--nopidfile"]),
    );
    wait_until("the bus is there", Duration::from_secs(10), || bus.exists());
    let address = format!("unix:path={}", bus.display());
    let _firewalld = Daemon::start(
        lab.node
            .command(PYTHON)
            .arg(place.join("usr/sbin/firewalld"))
            .args(["--nofork", "--nopid", "--log-target", "file", "--log-file"])
            .arg(lab.folder.join("firewalld.log"))
            .arg("--default-config")
            .arg(place.join("usr/lib/firewalld"))
            .arg("--system-config")
            .arg(&configuration)
            .env("DBUS_SYSTEM_BUS_ADDRESS", &address),
    );
    let client = place.join("usr/bin/firewall-cmd");
    script(
        lab,
        "firewall-cmd",
        &format!("DBUS_SYSTEM_BUS_ADDRESS='{address}' exec {PYTHON} '{}' \"$@\"", client.display()),
    );
    wait_until("firewalld runs", Duration::from_secs(30), || run(lab, "firewall-cmd --state").ok());
    is_repaired_by_its_own_command(&retail, "firewalld", "firewall-cmd ");
    let reloaded = run(lab, "firewall-cmd --reload");
    assert!(reloaded.ok(), "{}", reloaded.text());
    serves(&retail, 20);
}

#[test]
fn ufw_is_repaired_by_ufw() {
    let retail = Retail::start();
    let lab = &retail.lab;
    serves(&retail, 3);
    let root = lab.folder.join("ufw");
    let copied = output(Command::new("cp").arg("-r").arg(unpacked()).arg(&root));
    assert!(copied.ok(), "{}", copied.text());
    // As the package's installation does.
    let (from, to) = (root.join("usr/share/ufw"), root.join("etc/ufw"));
    for name in ["ufw.conf", "before.init", "after.init", "user.rules", "user6.rules"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for name in ["before.rules", "before6.rules", "after.rules", "after6.rules"] {
        fs::copy(from.join("iptables").join(name), to.join(name)).unwrap();
    }
    let defaults = root.join("etc/default/ufw");
    let text: String = fs::read_to_string(&defaults)
        .unwrap()
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("IPT_SYSCTL", _)) => "IPT_SYSCTL=\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(&defaults, text).unwrap();
    let root = root.display();
    script(
        lab,
        "ufw",
        &format!(
            "PYTHONPATH='{root}/usr/lib/python3/dist-packages' exec {PYTHON} '{root}/usr/sbin/ufw' --rootdir='{root}' --datadir='{root}' \"$@\""
        ),
    );
    let enabled = run(lab, "ufw --force enable");
    assert!(enabled.ok(), "{}", enabled.text());
    is_repaired_by_its_own_command(&retail, "ufw", "ufw allow in on brattice0");
    let reloaded = run(lab, "ufw reload");
    assert!(reloaded.ok(), "{}", reloaded.text());
    serves(&retail, 20);
}
