//! Several accounts in one directory: what one may not do is refused for it alone, shown in status, and delays no other.
//! Each refusal has its positive control: the same with what it lacked.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use brattice_tests::lab::{NETWORK, NODE, Retail, SETTLE, Workload, forward, service, wait_until};
use brattice_wire::api::OwnerView;

const ORDERS: &str = "accounts/shop/orders.yaml";
/// The hostile account's file, beside its good one.
const BAD: &str = "accounts/rival/bad.yaml";
const GRANT: &str = ", vpcs: [platform/green]";

/// The operator's file with a third account, which may claim names but has no VPC.
fn node() -> String {
    let platform = NODE.replace("{id: \"111111111111\"}", "{id: \"111111111111\", domains: [platform.internal]}");
    format!(
        "{platform}---\nkind: Account\nmetadata: {{name: rival}}\nspec: {{id: \"333333333333\", domains: [rival.internal]}}\n"
    )
}

/// A service that answers by itself.
fn fixed(name: &str, account: &str) -> String {
    format!(
        "---\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  customDomainNames: [{name}.{account}.internal]\n  serviceNetworks: [platform/retail]\n  listeners: [{{protocol: HTTP, port: 80, defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]\n"
    )
}

fn network() -> String {
    NETWORK.replace("[shop]", "[shop, rival]")
}

/// The usual node; shop/orders, platform/info and rival/deals serve.
struct Market {
    retail: Retail,
    /// Which version of shop/orders is written.
    version: std::cell::Cell<bool>,
}

impl Market {
    fn open() -> Self {
        let mut retail = Retail::prepare(&service(&forward(1, 0)));
        retail.lab.write("node.yaml", &node());
        retail.lab.write("accounts/platform/network.yaml", &format!("{}{}", network(), fixed("info", "platform")));
        retail.lab.write("accounts/rival/deals.yaml", &fixed("deals", "rival"));
        retail.lab.start_agent();
        let market = Self { retail, version: std::cell::Cell::new(false) };
        market.in_force(&["operator", "platform", "shop", "rival"]);
        assert!(market.answers("info.platform", 404) && market.answers("deals.rival", 404));
        assert!(market.answers("orders.shop", 200));
        market
    }

    fn owner(&self, name: &str) -> OwnerView {
        self.retail.lab.status().owners[name].clone()
    }

    fn in_force(&self, names: &[&str]) {
        for name in names {
            wait_until(&format!("{name} is in force: {:?}", self.owner(name)), SETTLE, || {
                self.owner(name).state == "in-force"
            });
        }
    }

    fn answers(&self, name: &str, status: u16) -> bool {
        self.retail.blue.fetch(&[&format!("http://{name}.internal/")]).0 == status
    }

    /// Has shop change its service in the same moment as something else happens, and waits until that serves.
    fn shop_changes(&self) {
        self.shop_changes_within(SETTLE);
    }

    fn shop_changes_within(&self, limit: Duration) {
        let second = !self.version.get();
        self.version.set(second);
        self.retail.lab.write(ORDERS, &service(&forward(u16::from(!second), u16::from(second))));
        let expected = if second { "v2" } else { "v1" };
        let orders = self.retail.orders();
        wait_until(&format!("shop serves {expected}"), limit, || {
            self.retail.blue.http(orders).is_ok_and(|mut c| c.nonce("n").is_ok_and(|a| a.server() == expected))
        });
    }

    /// Rival is refused for this reason, in `brattice status` too; the others are not, and go on.
    fn only_rival_is_refused(&self, what: &str, why: &str) {
        self.shop_changes();
        wait_until(&format!("{what}: {why:?} is not in {:?}", self.owner("rival")), SETTLE, || {
            let rival = self.owner("rival");
            rival.state == "invalid" && rival.errors.iter().any(|error| error.contains(why))
        });
        self.in_force(&["operator", "platform", "shop"]);
        let shown = self.retail.lab.brattice(&["status"]);
        assert_eq!(shown.code, 1, "{what}: degraded");
        // Within backticks, what is foreign is escaped.
        assert!(shown.stdout.contains(why), "{what}: {}", shown.stdout);
        assert!(self.answers("deals.rival", 404), "{what}: rival's last good documents serve on");
    }

    fn rival_is_well_again(&self) {
        self.in_force(&["rival"]);
        assert!(self.owner("rival").errors.is_empty());
    }
}

#[test]
fn a_grant_lets_in_and_its_withdrawal_shuts_out() {
    let market = Market::open();
    let lab = &market.retail.lab;
    // The network is not shared with shop any more.
    let withdrawn = format!("{}{}", NETWORK.replace("[shop]", "[rival]"), fixed("info", "platform"));
    lab.write("accounts/platform/network.yaml", &withdrawn);
    wait_until("shop/orders is out of the network", SETTLE, || {
        lab.service("shop/orders").service_networks[0].status == "CREATE_FAILED"
    });
    wait_until("nobody reaches it", SETTLE, || market.answers("orders.shop", 0));
    assert!(market.answers("info.platform", 404) && market.answers("deals.rival", 404), "others are reached");
    let warnings = market.owner("shop").warnings.join("\n");
    assert!(
        warnings.contains("accounts/shop/orders.yaml:") && warnings.contains("is not shared with the account shop"),
        "{warnings}"
    );
    assert!(market.owner("rival").warnings.is_empty() && market.owner("platform").warnings.is_empty());
    let shown = lab.brattice(&["status"]).stdout;
    assert!(shown.contains("shop: warning: accounts/shop/orders.yaml:"), "{shown}");
    // And again it is.
    lab.write("accounts/platform/network.yaml", &format!("{}{}", network(), fixed("info", "platform")));
    wait_until("shop/orders is reached again", SETTLE, || market.answers("orders.shop", 200));
    assert!(market.owner("shop").warnings.is_empty());

    // Shop may have no targets in green any more: its groups go, its service stays.
    lab.write("node.yaml", &node().replace(GRANT, ""));
    wait_until("shop has lost its targets", SETTLE, || market.owner("shop").state == "invalid");
    let errors = market.owner("shop").errors.join("\n");
    assert!(errors.contains("the account shop may not have targets in the VPC"), "{errors}");
    wait_until("there is no target", SETTLE, || market.answers("orders.shop", 503));
    market.in_force(&["operator", "platform", "rival"]);
    assert!(market.answers("info.platform", 404) && market.answers("deals.rival", 404));
    lab.write("node.yaml", &node());
    market.in_force(&["shop"]);
    wait_until("there are targets again", SETTLE, || market.answers("orders.shop", 200));
}

#[test]
fn what_is_the_operators_is_not_an_accounts() {
    let market = Market::open();
    let lab = &market.retail.lab;
    for (kind, document) in [
        (
            "Account",
            "kind: Account\nmetadata: {name: puppet}\nspec: {id: \"444444444444\", domains: [shop.internal]}\n",
        ),
        (
            "Vpc",
            "kind: Vpc\nmetadata: {name: trap}\nspec: {account: rival, cidrBlocks: [10.0.0.0/16], attachments: [{interface: \"trap*\"}]}\n",
        ),
        (
            "Workload",
            "kind: Workload\nmetadata: {name: puppet}\nspec: {vpcIdentifier: platform/red, interface: red9}\n",
        ),
        (
            "Role",
            "kind: Role\nmetadata: {name: admin}\nspec: {account: shop, trust: [{vpcIdentifier: platform/red}]}\n",
        ),
    ] {
        lab.write(BAD, document);
        market.only_rival_is_refused(kind, &format!("{kind}, and this place is the account rival's"));
        lab.remove(BAD);
        market.rival_is_well_again();
        // The operator may.
        lab.write("more.yaml", document);
        wait_until(&format!("the operator's {kind} is in force"), SETTLE, || {
            let operator = market.owner("operator");
            (operator.state.as_str(), operator.documents) == ("in-force", 7)
        });
        lab.remove("more.yaml");
        wait_until("it is gone", SETTLE, || market.owner("operator").documents == 6);
    }
}

#[test]
fn what_is_anothers_is_not_to_be_taken() {
    let market = Market::open();
    let lab = &market.retail.lab;
    let claim = fixed("twin", "rival").replace("twin.rival.internal", "orders.shop.internal");
    let target = "kind: TargetGroup\nmetadata: {name: spy}\nspec: {config: {vpcIdentifier: platform/green, port: 8080, protocol: HTTP}, targets: [{id: 10.0.0.10}]}\n";
    let policy = |of: &str| {
        format!(
            "kind: AuthPolicy\nspec:\n  resourceIdentifier: {of}\n  policy: {{Version: \"2012-10-17\", Statement: [{{Effect: Allow, Principal: \"*\", Action: \"*\", Resource: \"*\"}}]}}\n"
        )
    };
    let forward = |to: &str| {
        fixed("detour", "rival").replace(
            "fixedResponse: {statusCode: 404}",
            &format!("forward: {{targetGroups: [{{targetGroupIdentifier: {to}, weight: 1}}]}}"),
        )
    };
    let cases = [
        ("a domain", claim, "may not claim the domain `orders.shop.internal`", fixed("twin", "rival")),
        ("a policy", policy("shop/orders"), "`shop/orders`", policy("deals")),
        ("a target group", forward("shop/orders-v1"), "orders-v1", fixed("detour", "rival")),
        (
            "everybody's reload",
            "kind: Service\n  metadata: {name: [\n".to_owned(),
            "accounts/rival/bad.yaml:",
            fixed("whole", "rival"),
        ),
    ];
    for (what, bad, why, good) in cases {
        lab.write(BAD, &bad);
        market.only_rival_is_refused(what, why);
        lab.write(BAD, &good);
        market.rival_is_well_again();
    }
    assert!(market.answers("orders.shop", 200), "the owner keeps its domain");
    // Targets in a VPC: not without the operator's grant, and with it.
    lab.write(BAD, target);
    market.only_rival_is_refused("a VPC", "the account rival may not have targets in the VPC");
    lab.write(
        "node.yaml",
        &node().replace("domains: [rival.internal]", "domains: [rival.internal], vpcs: [platform/green]"),
    );
    market.rival_is_well_again();
    // Others' VPCs and services are not rival's to associate: the rest of its documents is in force, and this is shown.
    let taken = "kind: ServiceNetwork\nmetadata: {name: bait}\nspec: {}\n---\nkind: ServiceNetworkVpcAssociation\nspec: {vpcIdentifier: platform/red, serviceNetworkIdentifier: platform/retail}\n---\nkind: ServiceNetworkServiceAssociation\nspec: {serviceIdentifier: shop/orders, serviceNetworkIdentifier: bait}\n";
    lab.write(BAD, taken);
    wait_until("rival is told", SETTLE, || {
        let warnings = market.owner("rival").warnings.join("\n");
        warnings.contains("the VPC platform/red does not belong to the account rival")
            && warnings.contains("shop/orders is not shared with the account rival")
    });
    market.shop_changes();
    let orders = market.retail.orders();
    let status =
        |from: &Workload| from.http(orders).and_then(|mut open| open.get("/", "")).map_or(0, |answer| answer.status);
    // As of any unknown service.
    assert_eq!((status(&market.retail.red), status(&market.retail.blue)), (404, 200));
}

#[test]
fn files_outside_of_an_accounts_folder_are_not_read() {
    let market = Market::open();
    let lab = &market.retail.lab;
    let rival = lab.policies().join("accounts/rival");
    let secret = lab.folder.join("secret");
    fs::write(&secret, "the-secret: kind: of thing\n").unwrap();
    let link = rival.join("link.yaml");
    let out: [(&str, PathBuf); 6] = [
        ("an absolute path", secret.clone()),
        ("a relative one", "../../../secret".into()),
        ("another account's file", "../shop/orders.yaml".into()),
        ("the operator's", "../../node.yaml".into()),
        ("its own, by an absolute path", rival.join("deals.yaml")),
        ("the agent's environment", "/proc/self/environ".into()),
    ];
    for (what, target) in &out {
        symlink(target, &link).unwrap();
        market.only_rival_is_refused(what, "leads out of its owner's folder");
        fs::remove_file(&link).unwrap();
        market.rival_is_well_again();
    }
    // Folders, too.
    for target in [Path::new("../shop"), Path::new("/")] {
        symlink(target, rival.join("folder")).unwrap();
        market.only_rival_is_refused("a folder", "leads out of its owner's folder");
        fs::remove_file(rival.join("folder")).unwrap();
        market.rival_is_well_again();
    }
    // No document names a file: a path is just a text.
    for path in ["/etc/passwd", "file:///etc/passwd", "!include ../shop/orders.yaml"] {
        lab.write(BAD, &format!("kind: AuthPolicy\nspec: {{resourceIdentifier: deals, policy: {path}}}\n"));
        market.only_rival_is_refused(path, "accounts/rival/bad.yaml:2:");
        assert!(!market.owner("rival").errors.join("\n").contains("root:"));
    }
    lab.remove(BAD);
    market.rival_is_well_again();
    let output = format!("{}{}", lab.log(), serde_json::to_string(&lab.status()).unwrap());
    assert!(!output.contains("the-secret"), "what lies outside is not told");
    // Links inside its own folder work.
    fs::create_dir(rival.join("files")).unwrap();
    fs::write(rival.join("files/more.txt"), fixed("more", "rival")).unwrap();
    symlink("files/more.txt", &link).unwrap();
    wait_until("a link inside is followed", SETTLE, || market.answers("more.rival", 404));
    market.rival_is_well_again();
}

/// What an account does in its folder.
type Fill = Box<dyn Fn(&Path)>;

/// Whatever fills rival's folder: the limit it goes over.
fn exhausting() -> Vec<(&'static str, Fill, &'static str)> {
    let file = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    vec![
        (
            "one huge file",
            Box::new(|f: &Path| fs::File::create(f.join("huge.yaml")).unwrap().set_len(1 << 40).unwrap()),
            "bytes, of at most 1048576",
        ),
        (
            "many bytes",
            Box::new(move |f: &Path| (0..5).for_each(|n| file(f, &format!("{n}.yaml"), &"#\n".repeat(500_000)))),
            "more than 4194304 bytes of one owner",
        ),
        (
            "many files",
            Box::new(move |f: &Path| (0..4_200).for_each(|n| file(f, &format!("{n}.yaml"), ""))),
            "more than 4096 files of one owner",
        ),
        (
            "many folders",
            Box::new(|f: &Path| (0..300).for_each(|n| fs::create_dir(f.join(n.to_string())).unwrap())),
            "more than 256 folders of one owner",
        ),
        (
            "deep folders",
            Box::new(|f: &Path| fs::create_dir_all(f.join("d/".repeat(12))).unwrap()),
            "deeper than 8 folders",
        ),
        (
            "a FIFO",
            Box::new(|f: &Path| nix::unistd::mkfifo(&f.join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap()),
            "pipe.yaml: neither a file nor a folder",
        ),
        (
            "a device",
            Box::new(|f: &Path| {
                use nix::sys::stat::{Mode, SFlag, makedev, mknod};
                mknod(&f.join("zero.yaml"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap();
            }),
            "zero.yaml: neither a file nor a folder",
        ),
        (
            "many documents",
            Box::new(move |f: &Path| {
                for n in 0..3 {
                    let name = |m: i32| format!("---\nkind: ServiceNetwork\nmetadata: {{name: n{n}x{m}}}\n");
                    file(f, &format!("many{n}.yaml"), &(0..7_000).map(name).collect::<String>());
                }
            }),
            "more than 20000 documents",
        ),
        (
            "many nodes",
            Box::new(move |f: &Path| file(f, "nodes.yaml", &format!("[{}]", "a,".repeat(450_000)))),
            "more than 400000 YAML nodes",
        ),
        (
            "deep nesting",
            Box::new(move |f: &Path| file(f, "nest.yaml", &format!("a: {}", "[".repeat(100_000)))),
            "accounts/rival/more/nest.yaml:1:",
        ),
        (
            "many services",
            Box::new(move |f: &Path| {
                file(f, "services.yaml", &(0..2_001).map(|n| fixed(&format!("s{n:05}"), "rival")).collect::<String>());
            }),
            "the account rival has more than 2000 services",
        ),
        (
            "many rules",
            Box::new(move |f: &Path| {
                (0..6).for_each(|n| file(f, &format!("rules{n}.yaml"), &rules(n, 1_667, "method: GET")));
            }),
            "the account rival has more than 10000 rules",
        ),
        (
            "many statements",
            Box::new(move |f: &Path| file(f, "policies.yaml", &statements(11, 910))),
            "the account rival has more than 10000 policy statements",
        ),
        // What takes longest to compile.
        (
            "many regular expressions",
            Box::new(move |f: &Path| {
                file(f, "regexes.yaml", &rules(0, 1_001, "pathMatch: {match: {regex: \"/[a-z]{1,9}NUMBER\"}}"));
            }),
            "more than 1000 regular expressions in the files of one owner",
        ),
    ]
}

/// A service with rules of one condition, in which `NUMBER` is the rule's.
fn rules(service: u32, count: u32, condition: &str) -> String {
    let rule = |n: u32| {
        let condition = condition.replace("NUMBER", &n.to_string());
        format!(
            "{{name: rule{n}, priority: {}, match: {{httpMatch: {{{condition}}}}}, action: {{fixedResponse: {{statusCode: 404}}}}}}",
            n + 1
        )
    };
    let rules = (0..count).map(rule).collect::<Vec<_>>().join(", ");
    fixed(&format!("ruled{service}"), "rival")
        .replace("statusCode: 404}}}]", &format!("statusCode: 404}}}}, rules: [{rules}]}}]"))
}

/// Policies with many statements each.
fn statements(policies: u32, each: usize) -> String {
    let one = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
    let all = vec![one; each].join(",");
    let policy = |n: u32| {
        format!(
            "---\nkind: AuthPolicy\nspec:\n  resourceIdentifier: service{n}\n  policy: '{{\"Version\":\"2012-10-17\",\"Statement\":[{all}]}}'\n"
        )
    };
    (0..policies).map(policy).collect()
}

#[test]
fn limits_that_an_account_exhausts_are_its_own() {
    let market = Market::open();
    let more = market.retail.lab.policies().join("accounts/rival/more");
    for (what, fill, why) in exhausting() {
        fs::create_dir_all(&more).unwrap();
        fill(&more);
        market.only_rival_is_refused(what, why);
        fs::remove_dir_all(&more).unwrap();
        market.rival_is_well_again();
    }
    // As much as is allowed is.
    fs::create_dir_all(&more).unwrap();
    fs::write(more.join("large.yaml"), format!("{}{}", "#\n".repeat(400_000), fixed("large", "rival"))).unwrap();
    wait_until("a large file is read", SETTLE, || market.answers("large.rival", 404));
}

#[test]
fn an_account_that_writes_without_end_does_not_delay_others() {
    let market = Market::open();
    let rival = market.retail.lab.policies().join("accounts/rival");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The text that takes longest, never twice the same, in as many files as are read.
            let part = "a,".repeat(95_000);
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                for n in 0..4 {
                    fs::write(rival.join(format!("flood{n}.yaml")), format!("[{round},{part}]")).unwrap();
                }
                std::thread::sleep(Duration::from_millis(70));
            }
        });
        struct Stop<'s>(&'s AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        wait_until("rival is refused", 6 * SETTLE, || market.owner("rival").state == "invalid");
        // Without turns, none would come before the rival ends. The turns themselves are counted in the tests of
        // `agent/sources`; how long one takes here is the machine's affair.
        for _ in 0..6 {
            let started = Instant::now();
            market.shop_changes_within(6 * SETTLE);
            println!("a change of shop took {:?}", started.elapsed());
        }
        // In between, its files are being written.
        wait_until("rival is refused still", 6 * SETTLE, || market.owner("rival").state == "invalid");
        market.in_force(&["operator", "platform", "shop"]);
    });
    for n in 0..4 {
        fs::remove_file(rival.join(format!("flood{n}.yaml"))).unwrap();
    }
    market.rival_is_well_again();
}

/// Parsing, linking, planning and writing to the kernel delay no answer of the control socket.
#[test]
fn ten_large_folders_hold_no_answer_up() {
    const LONGEST: Duration = Duration::from_millis(100);
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let names: Vec<String> = (0..10).map(|n| format!("large{n}")).collect();
    let account = |(n, name): (usize, &String)| {
        format!("---\nkind: Account\nmetadata: {{name: {name}}}\nspec: {{id: \"{:012}\"}}\n", 500_000_000_000 + n)
    };
    let accounts: String = names.iter().enumerate().map(account).collect();
    retail.lab.write("node.yaml", &format!("{NODE}{accounts}"));
    retail.lab.start_agent();
    let documents: String =
        (0..900).map(|n| format!("kind: ServiceNetwork\nmetadata: {{name: net{n}}}\nspec: {{}}\n---\n")).collect();
    // 0.94 MB.
    let text = documents + &format!("# {}\n", "x".repeat(78)).repeat(11_000);
    for name in &names {
        retail.lab.write(&format!("accounts/{name}/x.yaml"), &text);
    }
    let (begun, mut took) = (Instant::now(), Vec::new());
    loop {
        let asked = Instant::now();
        let status = retail.lab.status();
        took.push(asked.elapsed());
        if names.iter().all(|name| status.owners.get(name).is_some_and(|owner| owner.documents == 900)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", status.owners);
    }
    took.sort();
    // One in twenty may be slow for lack of a processor.
    let (usual, longest) = (took[took.len() * 95 / 100], took[took.len() - 1]);
    println!("{} answers in {:?}, 95 of 100 within {usual:?}, the longest {longest:?}", took.len(), begun.elapsed());
    assert!(usual <= LONGEST, "{usual:?}");
}
