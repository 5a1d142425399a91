use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::source::Changes;
use crate::tree::{Found, ReadError, Tree};

const PATIENT: Duration = Duration::from_secs(60);

/// A source that is no directory, and where what became of its documents is written.
#[derive(Clone, Default)]
struct Memory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    texts: Mutex<BTreeMap<Owner, String>>,
    reported: Mutex<BTreeMap<Owner, OwnerView>>,
    changed: tokio::sync::Notify,
}

impl Memory {
    /// A source that has these documents from the beginning.
    fn with(owner: Owner, text: String) -> Self {
        let source = Self::default();
        source.0.texts.lock().unwrap().insert(owner, text);
        source
    }

    fn write(&self, owner: Owner, text: impl Into<String>) {
        self.0.texts.lock().unwrap().insert(owner, text.into());
        self.0.changed.notify_one();
    }

    fn state(&self, owner: &Owner) -> Option<String> {
        self.0.reported.lock().unwrap().get(owner).map(|view| view.state.clone())
    }
}

impl DocumentSource for Memory {
    type Changes = Self;

    fn changes(&self) -> Self {
        self.clone()
    }

    fn read(&self) -> Result<Tree, ReadError> {
        let found = |(owner, text): (&Owner, &String)| (owner.clone(), Found::one_file(owner, text));
        let owners = self.0.texts.lock().unwrap().iter().map(found).collect();
        Ok(Tree { owners, accounts_unknown: false })
    }

    fn report(&self, status: &BTreeMap<Owner, OwnerView>) {
        *self.0.reported.lock().unwrap() = status.clone();
    }
}

impl Changes for Memory {
    async fn next(&mut self) {
        self.0.changed.notified().await;
    }
}

/// Refuses so often, then keeps.
struct Disk(AtomicUsize);

impl Store for Disk {
    fn keep(&self, _: &LastGood) -> Result<(), String> {
        match self.0.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err("it is full".to_owned()),
            Err(_) => Ok(()),
        }
    }

    fn forget(&self, _: &Owner) -> Result<(), String> {
        Ok(())
    }
}

fn operator(accounts: &[String]) -> String {
    let account = |(n, name): (usize, &String)| {
        format!("kind: Account\nmetadata: {{name: {name}}}\nspec: {{id: \"{:012}\"}}\n---\n", 100_000_000_000 + n)
    };
    accounts.iter().enumerate().map(account).collect()
}

/// 900 networks in 0.94 MB.
fn networks(owner: &str) -> String {
    let documents =
        (0..900).map(|n| format!("kind: ServiceNetwork\nmetadata: {{name: {owner}-{n}}}\nspec: {{}}\n---\n"));
    let documents: String = documents.collect();
    let comment = format!("# {}\n", "x".repeat(78));
    documents + &comment.repeat(11_000)
}

fn follow(source: &Memory, refusals: usize) -> (Handle, mpsc::Receiver<Update>) {
    follow_with_patience(source, refusals, PATIENCE)
}

fn follow_with_patience(source: &Memory, refusals: usize, patience: Duration) -> (Handle, mpsc::Receiver<Update>) {
    let settings = LinkSettings {
        dns_suffix: "svc.test".to_owned(),
        vip: "169.254.64.0/20".parse().unwrap(),
        alias: "100.127.0.0/16".parse().unwrap(),
        ipv6: None,
        vips: VipState::default(),
    };
    start_with_patience(source.clone(), Disk(AtomicUsize::new(refusals)), Owners::default(), settings, patience)
        .unwrap()
}

/// Ten owners' documents change at once, each nearly as large as a file may be. The loop that takes the updates goes on
/// meanwhile.
#[tokio::test]
async fn a_loop_turns_on_while_documents_are_parsed_and_linked() {
    let source = Memory::default();
    let names: Vec<String> = (0..10).map(|n| format!("large{n}")).collect();
    source.write(Owner::Operator, operator(&names));
    let (_handle, mut updates) = follow(&source, 0);
    assert!(updates.recv().await.unwrap().changed);
    for name in &names {
        source.write(Owner::Account(name.clone()), networks(name));
    }
    let start = Instant::now();
    let (mut turns, mut worst, mut last, mut taken) = (0, Duration::ZERO, Instant::now(), 0);
    let done = loop {
        tokio::select! {
            biased;
            update = updates.recv() => {
                let update = update.unwrap();
                taken += usize::from(update.changed);
                if names.iter().all(|name| update.owners.get(name).is_some_and(|view| view.documents > 0)) {
                    break update;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => turns += 1,
        }
        worst = worst.max(last.elapsed());
        last = Instant::now();
        assert!(start.elapsed() < PATIENT, "{:?}", source.0.reported.lock().unwrap());
    };
    println!("{turns} turns in {:?}, longest {worst:?}, {taken} updates", start.elapsed());
    assert!(done.linked.model.networks.len() == 9_000 && turns > 50, "{turns}");
    assert!(names.iter().all(|name| source.state(&Owner::Account(name.clone())).as_deref() == Some("in-force")));
}

#[tokio::test]
async fn operators_accept_what_is_held_back_and_are_told_when_it_is_in_force() {
    let source = Memory::default();
    let shop = Owner::Account("shop".into());
    source.write(Owner::Operator, operator(&["shop".to_owned(), "pay".to_owned()]));
    source.write(shop.clone(), "kind: ServiceNetwork\nmetadata: {name: net}\n");
    let (handle, mut updates) = follow(&source, 0);
    updates.recv().await.unwrap();
    let unknown = handle.accept(Owner::Account("nobody".into())).await;
    assert!(matches!(&unknown, Answer::Error { code: ErrorCode::NotFound, message } if message.contains("shop")));
    source.write(shop.clone(), "");
    while source.state(&shop).as_deref() != Some("held-back") {
        updates.recv().await.unwrap();
    }
    let accepted = tokio::spawn({
        let (handle, shop) = (handle.clone(), shop.clone());
        async move { handle.accept(shop).await }
    });
    let update = loop {
        let update = updates.recv().await.unwrap();
        if update.accepted.is_some() {
            break update;
        }
    };
    assert!(!accepted.is_finished(), "it is not in force before whoever takes the update says so");
    assert!(update.linked.model.networks.is_empty());
    update.accepted.unwrap().tell();
    assert!(matches!(accepted.await.unwrap(), Answer::Done { message } if message.contains("revision 2 of shop")));
}

/// What is accepted is answered when it is parsed, however long that takes.
#[tokio::test]
async fn an_accept_waits_for_documents_that_are_still_being_parsed() {
    let source = Memory::default();
    let shop = Owner::Account("shop".into());
    source.write(Owner::Operator, operator(&["shop".to_owned()]));
    source.write(shop.clone(), "kind: ServiceNetwork\nmetadata: {name: net}\n");
    // No reading ever waits for a parser.
    let (handle, mut updates) = follow_with_patience(&source, 0, Duration::ZERO);
    updates.recv().await.unwrap();
    // No event reports the change: `brattice accept` finds it.
    source.0.texts.lock().unwrap().insert(shop.clone(), networks("n"));
    let accepted = tokio::spawn(async move { handle.accept(shop).await });
    let update = loop {
        let update = updates.recv().await.unwrap();
        if update.accepted.is_some() {
            break update;
        }
    };
    assert_eq!(update.linked.model.networks.len(), 900);
    update.accepted.unwrap().tell();
    let answer = accepted.await.unwrap();
    assert!(matches!(&answer, Answer::Done { message } if message.contains("revision 2 of shop")), "{answer:?}");
}

#[tokio::test]
async fn what_the_disk_refuses_is_said_and_tried_again() {
    let source = Memory::with(Owner::Operator, operator(&["shop".to_owned()]));
    let (_handle, mut updates) = follow(&source, 1);
    let refused = updates.recv().await.unwrap();
    assert!(refused.unkept[0].contains("documents of operator: it is full"), "{:?}", refused.unkept);
    let start = Instant::now();
    let kept = updates.recv().await.unwrap();
    assert!(kept.unkept.is_empty() && !kept.changed && start.elapsed() >= RETRY / 2);
    assert!(Arc::ptr_eq(&kept.linked, &refused.linked), "nothing was linked again");
}

#[tokio::test]
async fn it_ends_with_whoever_takes_its_updates() {
    let source = Memory::with(Owner::Operator, operator(&["shop".to_owned()]));
    let (handle, mut updates) = follow(&source, 0);
    updates.recv().await.unwrap();
    drop(handle);
    assert!(updates.recv().await.is_none());
}
