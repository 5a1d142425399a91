//! Removes what labs made: on drop, on SIGINT and SIGTERM, and what killed runs left behind.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    sync::{
        Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{PREFIX, commands::output};

static LABS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static STARTED: Once = Once::new();
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// After a signal, the thread that waits for signals removes the labs and ends the process: others stop here.
pub(super) fn stop_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Once a process: sweeps left-overs, and waits for signals on a thread.
pub(super) fn start() {
    STARTED.call_once(|| {
        // Thousands of connections are held open at once.
        if let Ok((_, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
            let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard.min(65_536), hard);
        }
        sweep();
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
                let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
                let mut hangup = signal(SignalKind::hangup()).expect("a signal handler");
                tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} _ = hangup.recv() => {} }
            });
            INTERRUPTED.store(true, Ordering::SeqCst);
            // What fails from now on fails because its lab is going.
            std::panic::set_hook(Box::new(|_| {}));
            let labs = std::mem::take(&mut *LABS.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            eprintln!("\ninterrupted: removing {} labs", labs.len());
            for id in labs {
                tear_down(&id);
            }
            std::process::exit(130);
        });
    });
}

/// A lab that must be torn down.
pub(super) fn register(id: &str) {
    LABS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id.to_owned());
}

/// Forgets a lab that is meant to outlive this process.
pub(super) fn forget(id: &str) {
    LABS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
}

/// Removes everything of one lab. Never fails: what is gone is gone.
pub(super) fn tear_down(id: &str) {
    let namespaces = entries("/run/netns", &format!("{id}-"));
    kill_inside(&namespaces);
    let _ = fs::remove_dir_all(Path::new("/sys/fs/bpf").join(id));
    for name in &namespaces {
        let _ = output(Command::new("ip").args(["netns", "delete", name]));
        let _ = fs::remove_dir_all(Path::new("/etc/netns").join(name));
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(id));
    forget(id);
}

/// Kills the processes inside these namespaces, which are ours alone; waits until they are gone.
fn kill_inside(namespaces: &[String]) {
    let own = std::process::id().cast_signed();
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let mut alive = false;
        for name in namespaces {
            let listed = output(Command::new("ip").args(["netns", "pids", name]));
            for pid in
                listed.stdout.lines().filter_map(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid != own)
            {
                alive = true;
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if !alive || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Tears down labs whose process is gone: their ids hold its number.
fn sweep() {
    let mut ids = BTreeSet::new();
    let temporary = std::env::temp_dir();
    for folder in ["/run/netns", "/sys/fs/bpf", &temporary.to_string_lossy()] {
        for name in entries(folder, &format!("{PREFIX}-")) {
            let mut words = name.splitn(4, '-').skip(1);
            let (Some(pid), Some(number)) = (words.next(), words.next()) else { continue };
            if pid.parse::<u32>().is_ok() && number.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
                ids.insert(format!("{PREFIX}-{pid}-{number}"));
            }
        }
    }
    for id in ids {
        tear_down(&id);
    }
}

/// Names in a folder that begin with `prefix`.
fn entries(folder: &str, prefix: &str) -> Vec<String> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}
