use std::collections::BTreeMap;
use std::path::Path;

use brattice_model::{Linked, VipState};
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::linking::Linking;
use crate::settle::SETTLE;

const OPERATOR: &str = r#"
kind: Account
metadata: {name: platform}
spec: {id: "111111111111"}
---
kind: Account
metadata: {name: shop}
spec: {id: "222222222222", domains: [shop.internal], vpcs: [platform/green]}
---
kind: Account
metadata: {name: rival}
spec: {id: "333333333333", domains: [shop.internal]}
---
kind: Vpc
metadata: {name: green}
spec: {account: platform, cidrBlocks: [10.0.0.0/16]}
---
kind: Vpc
metadata: {name: blue}
spec: {account: platform, cidrBlocks: [10.0.0.0/16]}
"#;

fn service(name: &str, domain: &str) -> String {
    format!(
        "kind: Service\nmetadata: {{name: {name}}}\nspec:\n  {domain}listeners: [{{protocol: HTTP, defaultAction: {{fixedResponse: {{statusCode: 404}}}}}}]\n---\n"
    )
}

fn account(name: &str) -> Owner {
    Owner::Account(name.into())
}

/// A node with its owners; what is on disk is a map of owner to text.
struct Node {
    owners: Owners,
    parsers: Parsers,
    now: Instant,
    disk: BTreeMap<Owner, Found>,
}

impl Node {
    fn new() -> Self {
        let mut node =
            Self { owners: Owners::default(), parsers: Parsers::new(), now: Instant::now(), disk: BTreeMap::new() };
        node.write(Owner::Operator, OPERATOR);
        node.write(account("shop"), &(service("orders", "") + &service("cart", "") + &service("stock", "")));
        node.read(None);
        assert!(node.states().iter().all(|(_, state)| state == "in-force"), "{:?}", node.owners.views());
        node
    }

    fn write(&mut self, owner: Owner, text: &str) {
        let found = Found::one_file(&owner, text);
        self.disk.insert(owner, found);
    }

    fn read(&mut self, accepted: Option<&Owner>) -> Outcome {
        let disk = self.disk.clone();
        self.apply(|| Ok(Tree { owners: disk.clone(), accounts_unknown: false }), accepted)
    }

    /// Takes a reading in, again and again until nothing waits.
    fn apply(&mut self, read: impl Fn() -> Result<Tree, ReadError>, accepted: Option<&Owner>) -> Outcome {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let terms = Terms { now: self.now, ..Terms::now(accepted, None) };
            let outcome = self.owners.apply(read(), &terms, &self.parsers, &mut link);
            changed.extend(outcome.changed.clone());
            removed.extend(outcome.removed.clone());
            let Some(again) = outcome.again else { return Outcome { changed, removed, ..outcome } };
            self.now += again;
        }
        panic!("something waits for ever")
    }

    fn states(&self) -> Vec<(String, String)> {
        self.owners.views().into_iter().map(|(owner, view)| (owner, view.state)).collect()
    }

    #[track_caller]
    fn is(&self, owner: &Owner, state: &str, error: &str) {
        let view = &self.owners.views()[&owner.to_string()];
        assert_eq!(view.state, state, "{view:?}");
        assert!(view.errors.join("\n").contains(error), "{:?} does not contain {error:?}", view.errors);
    }
}

fn link(documents: &AllDocuments) -> Arc<Linked> {
    let linking = Linking {
        vips: &VipState::default(),
        dns_suffix: "svc.test",
        vip: "169.254.64.0/20".parse().unwrap(),
        alias: "100.127.0.0/16".parse().unwrap(),
        ipv6: None,
    };
    linking.link(documents).into()
}

fn services(linked: &Linked) -> Vec<&str> {
    linked.model.services.iter().filter(|s| s.status.is_active()).map(|s| s.name.as_str()).collect()
}

#[test]
fn half_broken_documents_change_nothing_of_their_owner_and_everything_of_others() {
    let mut node = Node::new();
    // shop: one good new service and one broken document. rival: a new one.
    let text = service("orders", "")
        + &service("cart", "")
        + &service("stock", "")
        + &service("returns", "")
        + "kind: Nonsense\n";
    node.write(account("shop"), &text);
    node.write(account("rival"), &service("other", ""));
    let outcome = node.read(None);
    assert_eq!(services(&outcome.linked), ["rival/other", "shop/cart", "shop/orders", "shop/stock"], "no shop/returns");
    node.is(&account("shop"), "invalid", "accounts/shop/x.yaml:");
    node.is(&account("rival"), "in-force", "");
    assert_eq!(outcome.changed.iter().map(|good| good.owner.clone()).collect::<Vec<_>>(), [account("rival")]);
    // Corrected: in force, with one revision more.
    node.write(account("shop"), &text.replace("kind: Nonsense\n", ""));
    let outcome = node.read(None);
    assert!(services(&outcome.linked).contains(&"shop/returns"));
    node.is(&account("shop"), "in-force", "");
    assert_eq!(node.owners.views()["shop"].revision, 2);
}

#[test]
fn an_error_that_shows_only_together_puts_back_who_made_it() {
    let mut node = Node::new();
    node.write(
        account("shop"),
        &(service("orders", "") + &service("cart", "") + &service("stock", "customDomainNames: [nobody.example]\n  ")),
    );
    let outcome = node.read(None);
    node.is(&account("shop"), "invalid", "nobody.example");
    assert_eq!(services(&outcome.linked), ["shop/cart", "shop/orders", "shop/stock"]);
    assert!(outcome.changed.is_empty());
    assert!(outcome.linked.model.service("shop/stock").unwrap().domains.is_empty(), "the last good one");
}

#[test]
fn what_loses_its_ground_is_left_out_and_shown() {
    let mut node = Node::new();
    let group = "kind: TargetGroup\nmetadata: {name: backs}\nspec: {config: {vpcIdentifier: platform/green, port: 80}, targets: [{id: 10.0.0.1}]}\n";
    node.write(account("shop"), &(service("orders", "") + group));
    node.read(Some(&account("shop")));
    node.is(&account("shop"), "in-force", "");
    // The operator takes the VPC away from the account: that cannot be held back.
    node.write(Owner::Operator, &OPERATOR.replace(", vpcs: [platform/green]", ""));
    let outcome = node.read(None);
    node.is(&Owner::Operator, "in-force", "");
    node.is(&account("shop"), "invalid", "green");
    assert!(!outcome.linked.model.target_group("shop/backs").unwrap().status.is_active());
    assert_eq!(services(&outcome.linked), ["shop/orders"], "the rest of the account serves on");
    // And comes back with the grant.
    node.write(Owner::Operator, OPERATOR);
    let outcome = node.read(None);
    node.is(&account("shop"), "in-force", "");
    assert!(outcome.linked.model.target_group("shop/backs").unwrap().status.is_active());
}

#[test]
fn most_services_cannot_go_by_accident() {
    let mut node = Node::new();
    // One of three: fine.
    node.write(account("shop"), &(service("orders", "") + &service("cart", "")));
    assert_eq!(services(&node.read(None).linked), ["shop/cart", "shop/orders"]);
    node.is(&account("shop"), "in-force", "");
    // Two of two: held back, also when the folder is gone, and until it is accepted.
    node.disk.remove(&account("shop"));
    for _ in 0..2 {
        assert_eq!(services(&node.read(None).linked), ["shop/cart", "shop/orders"]);
        node.is(&account("shop"), "held-back", "brattice accept shop");
        assert!(node.owners.is_held_back(&account("shop")));
    }
    // Accepting another owner's removal does not accept this one's.
    assert_eq!(services(&node.read(Some(&Owner::Operator)).linked).len(), 2);
    let outcome = node.read(Some(&account("shop")));
    assert!(services(&outcome.linked).is_empty());
    assert_eq!(outcome.removed, [account("shop")]);
    assert!(!node.owners.is_known(&account("shop")));
}

#[test]
fn a_held_back_change_that_is_undone_is_forgotten() {
    let mut node = Node::new();
    let before = node.disk[&account("shop")].clone();
    node.write(account("shop"), &service("orders", ""));
    node.read(None);
    node.is(&account("shop"), "held-back", "2 of 3");
    node.disk.insert(account("shop"), before);
    node.read(None);
    node.is(&account("shop"), "in-force", "");
    assert_eq!(node.owners.views()["shop"].revision, 1);
}

#[test]
fn a_directory_that_is_gone_empty_or_unreadable_serves_the_last_good() {
    let mut node = Node::new();
    let all = ["shop/cart", "shop/orders", "shop/stock"];
    let outcome = node.apply(|| Err(ReadError::Missing(Path::new("/nowhere").into())), None);
    assert_eq!(services(&outcome.linked), all);
    node.is(&Owner::Operator, "missing", "/nowhere does not exist");
    let nothing = || Found::from(Ok(Vec::new()));
    let outcome =
        node.apply(|| Ok(Tree { owners: [(Owner::Operator, nothing())].into(), accounts_unknown: false }), None);
    assert_eq!(services(&outcome.linked), all);
    node.is(&Owner::Operator, "missing", "empty");
    let unreadable = || Tree {
        owners: [(Owner::Operator, Err(vec!["node.yaml: permission denied".into()]).into())].into(),
        accounts_unknown: true,
    };
    let outcome = node.apply(|| Ok(unreadable()), None);
    assert_eq!(services(&outcome.linked), all);
    node.is(&Owner::Operator, "invalid", "permission denied");
    node.is(&account("shop"), "missing", "cannot be listed");
    node.read(None);
    assert!(node.states().iter().all(|(_, state)| state == "in-force"));
}

#[test]
fn the_last_good_survive_a_restart_with_a_broken_directory() {
    let mut node = Node::new();
    let kept: BTreeMap<Owner, LastGood> = {
        let mut again = Owners::default();
        let tree = Tree { owners: node.disk.clone(), accounts_unknown: false };
        let terms = Terms::now(None, None);
        again
            .apply(Ok(tree), &terms, &node.parsers, &mut link)
            .changed
            .into_iter()
            .map(|good| (good.owner.clone(), good))
            .collect()
    };
    assert_eq!(kept.len(), 2);
    node.write(account("shop"), "kind: [broken");
    node.owners = Owners::restore(kept);
    let outcome = node.read(None);
    assert_eq!(services(&outcome.linked), ["shop/cart", "shop/orders", "shop/stock"]);
    node.is(&account("shop"), "invalid", "accounts/shop/x.yaml:");
    node.is(&Owner::Operator, "in-force", "");
}

#[test]
fn two_owners_that_need_each_other_come_into_force_together() {
    let mut node = Node::new();
    // The rival's folder comes together with the account it needs.
    node.write(
        Owner::Operator,
        &(OPERATOR.to_owned() + "---\nkind: Account\nmetadata: {name: late}\nspec: {id: \"444444444444\"}\n"),
    );
    node.write(account("late"), &service("new", ""));
    let outcome = node.read(None);
    node.is(&account("late"), "in-force", "");
    assert!(services(&outcome.linked).contains(&"late/new"));
    // And where the operator's part is refused, the account's waits for it.
    let mut node = Node::new();
    node.write(
        Owner::Operator,
        &(OPERATOR.to_owned() + "---\nkind: Account\nmetadata: {name: late}\nspec: {id: \"111111111111\"}\n"),
    );
    node.write(account("late"), &service("new", ""));
    let outcome = node.read(None);
    node.is(&Owner::Operator, "invalid", "111111111111");
    node.is(&account("late"), "invalid", "");
    assert_eq!(services(&outcome.linked).len(), 3);
}

#[test]
fn documents_that_are_refused_are_read_once() {
    let mut node = Node::new();
    // As large as they may be, and wrong at their end.
    let part = brattice_model::limits::MAX_FILE_BYTES / 2 - 16;
    let text = |last: &str| format!("[{}]\n{last}", "a,".repeat(part - last.len()));
    node.write(account("shop"), &text("a"));
    let first = Instant::now();
    node.read(None);
    let first = first.elapsed();
    node.is(&account("shop"), "invalid", "accounts/shop/x.yaml");
    node.write(account("rival"), &service("other", ""));
    let again = Instant::now();
    node.read(None);
    let again = again.elapsed();
    node.is(&account("shop"), "invalid", "accounts/shop/x.yaml");
    node.is(&account("rival"), "in-force", "");
    assert!(again < first / 4, "{again:?} after {first:?}");
    // Others are read anew, and what was wrong is not kept for them.
    node.write(account("shop"), &(service("orders", "") + &service("cart", "") + &service("stock", "")));
    node.read(None);
    node.is(&account("shop"), "in-force", "");
}

/// Files that were changed just now, and look like `stamp`.
fn young(text: &str, stamp: u64, open: &[&str]) -> Found {
    let look = Look {
        stamp,
        changed: Some(SystemTime::now()),
        open: open.iter().map(|file| (*file).to_owned()).collect(),
        unasked: false,
    };
    Found { look, ..Found::one_file(&account("shop"), text) }
}

#[test]
fn files_being_written_wait_and_do_not_delay_other_owners() {
    let mut node = Node::new();
    let all = ["shop/cart", "shop/orders", "shop/stock"];
    let half = service("orders", "") + &service("cart", "");
    node.disk.insert(account("shop"), young(&half, 1, &["accounts/shop/x.yaml"]));
    node.write(account("rival"), &service("other", ""));
    let outcome = node.read(None);
    assert_eq!(services(&outcome.linked), [&["rival/other"][..], &all].concat());
    node.is(&account("shop"), "being-written", "accounts/shop/x.yaml is open for writing");
    node.is(&account("rival"), "in-force", "");
    // However long it takes.
    node.now += Duration::from_secs(100_000);
    assert_eq!(services(&node.read(None).linked).len(), 4);
    // Closed: taken when it has settled.
    node.disk.insert(account("shop"), young(&half, 2, &[]));
    assert_eq!(services(&node.read(None).linked), ["rival/other", "shop/cart", "shop/orders"]);
    node.is(&account("shop"), "in-force", "");
    // Or when an operator says so.
    node.disk.insert(account("shop"), young(&service("orders", ""), 3, &["accounts/shop/x.yaml"]));
    assert_eq!(services(&node.read(Some(&account("rival"))).linked).len(), 3, "somebody else's");
    assert_eq!(services(&node.read(Some(&account("shop"))).linked), ["rival/other", "shop/orders"]);
}

#[test]
fn a_set_of_files_that_changes_on_is_not_taken_half() {
    let mut node = Node::new();
    let names = ["orders", "cart", "stock", "returns", "refunds"];
    for n in 3..=names.len() {
        let text: String = names[..n].iter().map(|name| service(name, "")).collect();
        let tree = Tree {
            owners: [
                (account("shop"), young(&text, n as u64, &[])),
                (Owner::Operator, node.disk[&Owner::Operator].clone()),
            ]
            .into(),
            accounts_unknown: false,
        };
        node.now += SETTLE / 2;
        let terms = Terms { now: node.now, ..Terms::now(None, None) };
        let outcome = node.owners.apply(Ok(tree), &terms, &node.parsers, &mut link);
        assert_eq!(services(&outcome.linked).len(), 3, "the last good");
        assert!(n == 3 || outcome.again.is_some());
        node.disk.insert(account("shop"), young(&text, n as u64, &[]));
    }
    assert_eq!(services(&node.read(None).linked).len(), 5);
}

#[test]
fn a_file_that_shrank_to_nothing_is_held_back() {
    let mut node = Node::new();
    for nothing in ["", "\n  \n"] {
        node.write(account("shop"), nothing);
        assert_eq!(services(&node.read(None).linked).len(), 3);
        node.is(&account("shop"), "held-back", "accounts/shop/x.yaml is empty and was not");
    }
    // Also where it takes no service away.
    node.write(Owner::Operator, "");
    node.read(None);
    node.is(&Owner::Operator, "held-back", "node.yaml is empty");
    node.write(Owner::Operator, OPERATOR);
    node.write(account("shop"), &(service("orders", "") + &service("cart", "") + &service("stock", "")));
    node.read(None);
    assert!(node.states().iter().all(|(_, state)| state == "in-force"));
    node.write(account("shop"), "");
    assert!(services(&node.read(Some(&account("shop"))).linked).is_empty(), "accepted");
    // A file that always was empty is no error.
    node.write(account("rival"), "");
    node.read(None);
    node.is(&account("rival"), "in-force", "");
}

#[test]
fn large_or_often_changed_documents_do_not_delay_other_owners() {
    let mut node = Node::new();
    let names: Vec<String> = (0..4).map(|n| format!("big{n}")).collect();
    let accounts: String = (names.iter().enumerate())
        .map(|(n, name)| format!("---\nkind: Account\nmetadata: {{name: {name}}}\nspec: {{id: \"90000000000{n}\"}}\n"))
        .collect();
    node.write(Owner::Operator, &(OPERATOR.to_owned() + &accounts));
    node.read(None);
    // Within all bounds, and wrong: only parsing shows it.
    let large = format!("[{}a]\n", "a,".repeat(390_000));
    for name in &names {
        node.write(account(name), &large);
    }
    node.write(account("rival"), &service("other", ""));
    let refused = |node: &Node| {
        let views = node.owners.views();
        names.iter().filter(|name| views.get(*name).is_some_and(|view| view.state == "invalid")).count()
    };
    let mut turns = 0;
    loop {
        let tree = Tree { owners: node.disk.clone(), accounts_unknown: false };
        let terms = Terms::now(None, Some(Duration::from_millis(300)));
        let outcome = node.owners.apply(Ok(tree), &terms, &node.parsers, &mut link);
        turns += 1;
        if turns == 1 {
            node.is(&account("rival"), "in-force", "");
            assert!(refused(&node) < names.len() && outcome.again == Some(Duration::ZERO));
        }
        if outcome.again.is_none() {
            break;
        }
        // One of them changes its documents all the time.
        node.write(account("rival"), &(service("other", "") + &service(&format!("other{turns}"), "")));
    }
    assert_eq!(refused(&node), names.len());
    node.is(&account("rival"), "in-force", "");
    assert_eq!(node.owners.views()["rival"].revision, turns, "each of its changes came into force");
}

#[test]
fn what_did_not_change_is_linked_once() {
    let mut node = Node::new();
    // Valid alone and refused together with others: it stays a candidate.
    node.write(
        account("rival"),
        "kind: ServiceNetworkServiceAssociation\nspec: {serviceNetworkIdentifier: a, serviceIdentifier: b}\n",
    );
    node.write(account("nobody"), &service("new", ""));
    node.read(None);
    let before = node.states();
    let mut links = 0;
    for (seconds, expected) in [(1, 0), (2, 0), (RELINK.as_secs(), 1)] {
        node.now += Duration::from_secs(seconds);
        let tree = Tree { owners: node.disk.clone(), accounts_unknown: false };
        let terms = Terms { now: node.now, ..Terms::now(None, None) };
        node.owners.apply(Ok(tree), &terms, &node.parsers, &mut |documents| {
            links += 1;
            link(documents)
        });
        assert!(links >= expected && (expected > 0 || links == 0), "{links} after {seconds} s");
        assert_eq!(node.states(), before);
    }
    node.is(&account("nobody"), "invalid", "there is no account");
}

/// Counts warnings about each owner.
#[derive(Clone, Default)]
struct Warnings(Arc<std::sync::Mutex<BTreeMap<String, usize>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct OwnerOf(Option<String>);
        impl tracing::field::Visit for OwnerOf {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "owner" {
                    self.0 = Some(format!("{value:?}"));
                }
            }
        }
        if *event.metadata().level() != tracing::Level::WARN {
            return;
        }
        let mut owner = OwnerOf(None);
        event.record(&mut owner);
        *self.0.lock().unwrap().entry(owner.0.unwrap_or_default()).or_default() += 1;
    }
}

#[test]
fn an_owner_who_writes_nonsense_all_the_time_neither_fills_the_log_nor_drowns_others() {
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    tracing::subscriber::with_default(subscriber, || {
        let mut node = Node::new();
        for round in 0..60 {
            node.write(account("rival"), &format!("kind: Nonsense{round}\n"));
            node.read(None);
        }
        node.write(account("shop"), "kind: Nonsense\n");
        node.read(None);
    });
    let counts = warnings.0.lock().unwrap().clone();
    // A new period may begin meanwhile.
    let lines = usize::try_from(rarely::LINES).unwrap();
    assert!((1..=2 * lines).contains(&counts["rival"]), "{counts:?}");
    assert_eq!(counts["shop"], 1, "{counts:?}");
}
