use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Client;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use brattice_wire::api::{Mode, Scope};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::api::socket::{bind, prepare_directory};

const ENGINE: u32 = 61_001;
const GROUP: u32 = 61_002;
const STRANGER: u32 = 61_003;

/// A server that answers every allowed request with `Done`.
async fn server() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let directory = root.path().join("run");
    prepare_directory(&directory, GROUP).unwrap();
    let socket = directory.join("agent.sock");
    let listener = bind(&socket, GROUP).unwrap();
    let (calls, mut asked) = mpsc::channel::<Call>(4);
    tokio::spawn(serve(listener, Access { engine_uid: ENGINE, group: GROUP }, calls));
    tokio::spawn(async move {
        while let Some(call) = asked.recv().await {
            let message = format!("{:?}", call.request);
            let _ = call.answer.send(match call.connection {
                // As the engine would.
                Some(connection) => {
                    Client::from(connection).write_all(format!("handed over: {message}\n").as_bytes()).unwrap();
                    Reply::HandedOver
                }
                None => Answer::Done { message }.into(),
            });
        }
    });
    (root, socket)
}

async fn ask(socket: &Path, bytes: impl Into<Vec<u8>>) -> Answer {
    let (socket, bytes) = (socket.to_owned(), bytes.into());
    tokio::task::spawn_blocking(move || {
        let mut stream = Client::connect(socket).unwrap();
        // The server may close before it has read everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    })
    .await
    .unwrap()
}

#[track_caller]
fn is_error(answer: &Answer, code: ErrorCode, text: &str) {
    match answer {
        Answer::Error { code: found, message } => {
            assert_eq!(*found, code, "{message}");
            assert!(message.contains(text), "{message:?} does not contain {text:?}");
        }
        other => panic!("{other:?} is no error"),
    }
}

#[tokio::test]
async fn root_is_answered_and_junk_is_refused() {
    let (_root, socket) = server().await;
    assert!(matches!(ask(&socket, "{\"verb\":\"status\"}\n").await, Answer::Done { .. }));
    assert!(matches!(ask(&socket, "{\"verb\":\"accept\",\"owner\":\"shop\"}\nrest").await, Answer::Done { .. }));
    is_error(&ask(&socket, "\n").await, ErrorCode::BadRequest, "not a request");
    is_error(&ask(&socket, "{\"verb\":\"status\"}").await, ErrorCode::BadRequest, "newline");
    is_error(&ask(&socket, "{\"verb\":\"explode\"}\n").await, ErrorCode::BadRequest, "explode");
    is_error(&ask(&socket, "{\"verb\":\"accept\",\"owner\":1}\n").await, ErrorCode::BadRequest, "not a request");
    is_error(&ask(&socket, "{\"verb\":\"accept\",\"owner\":\"a\",\"more\":1}\n").await, ErrorCode::BadRequest, "more");
    is_error(&ask(&socket, b"\xff\x00\xfe\n".to_vec()).await, ErrorCode::BadRequest, "not a request");
    is_error(
        &ask(&socket, vec![b'['; 60_000].into_iter().chain(*b"\n").collect::<Vec<_>>()).await,
        ErrorCode::BadRequest,
        "",
    );
    is_error(
        &ask(&socket, vec![b'x'; MAX_REQUEST + 1]).await,
        ErrorCode::BadRequest,
        &format!("longer than {MAX_REQUEST} bytes"),
    );
    // And afterwards it still answers.
    assert!(matches!(ask(&socket, "{\"verb\":\"workloads\"}\n").await, Answer::Done { .. }));
}

/// As the agent's runtime, while its loop plans and writes to the kernel and other tasks encode: all of its threads are busy.
#[test]
fn no_answer_waits_for_what_the_agents_other_tasks_do() {
    const ANSWERS: u32 = 200;
    let root = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let directory = root.path().join("run");
    prepare_directory(&directory, GROUP).unwrap();
    let socket = directory.join("agent.sock");
    let agent = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let within = agent.enter();
    let thread = super::super::thread::Thread::start().unwrap();
    let (calls, mut asked) = mpsc::channel::<Call>(4);
    thread.spawn(serve(bind(&socket, GROUP).unwrap(), Access { engine_uid: ENGINE, group: GROUP }, calls));
    thread.spawn(async move {
        while let Some(call) = asked.recv().await {
            let _ = call.answer.send(Answer::Done { message: String::new() }.into());
        }
    });
    // Turns of the loop that end when all requests are answered: a request that waited for a turn would get no answer.
    let (answered, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    for _ in 0..2 {
        let (answered, turns) = (answered.clone(), turns.clone());
        agent.spawn(async move {
            let begun = Instant::now();
            while !answered.load(Ordering::Relaxed) && begun.elapsed() < ANSWER_TIME {
                std::thread::sleep(Duration::from_millis(1));
            }
            turns.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut longest = Duration::ZERO;
    for _ in 0..ANSWERS {
        let begun = Instant::now();
        let mut stream = Client::connect(&socket).unwrap();
        stream.write_all(b"{\"verb\":\"status\"}\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(matches!(serde_json::from_str(&answer).unwrap(), Answer::Done { .. }));
        longest = longest.max(begun.elapsed());
    }
    println!("{ANSWERS} answers within one turn, the longest after {longest:?}");
    assert_eq!(turns.load(Ordering::Relaxed), 0, "all while the loop did nothing else");
    answered.store(true, Ordering::Relaxed);
    drop(within);
}

#[tokio::test]
async fn what_the_engine_answers_goes_to_it_with_the_connection() {
    let (_root, socket) = server().await;
    let lines = |request: &'static str| {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = Client::connect(socket).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    };
    let flows = lines("{\"verb\":\"flows\"}\n").await.unwrap();
    assert_eq!(flows, "handed over: Flows\n");
    let recall = lines("{\"verb\":\"recall\",\"what\":{\"request\":\"r-1\"}}\n").await.unwrap();
    assert_eq!(recall, "handed over: Recall { what: Request(\"r-1\") }\n");
    // What the agent answers stays here.
    let question =
        "{\"verb\":\"route\",\"from\":\"a\",\"service\":\"b\",\"method\":\"GET\",\"path\":\"/\",\"headers\":[]}\n";
    assert!(matches!(ask(&socket, question).await, Answer::Done { message } if message.starts_with("Route(")));
    let unknown = question.replace("\"method\"", "\"methods\"");
    is_error(&ask(&socket, unknown).await, ErrorCode::BadRequest, "methods");
}

#[tokio::test(start_paused = true)]
async fn a_slow_caller_is_cut_off() {
    let (_root, socket) = server().await;
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"{\"verb\":").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    is_error(&serde_json::from_str(&answer).unwrap(), ErrorCode::BadRequest, "within 5 s");
}

#[tokio::test]
async fn idle_callers_do_not_lock_root_out() {
    let (_root, socket) = server().await;
    let idle: Vec<_> = (0..MAX_CONNECTIONS).map(|_| Client::connect(&socket).unwrap()).collect();
    drop(idle);
    for _ in 0..100 {
        if matches!(
            tokio::task::spawn_blocking({
                let socket = socket.clone();
                move || {
                    let mut stream = Client::connect(socket).ok()?;
                    stream.write_all(b"{\"verb\":\"status\"}\n").ok()?;
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).ok()?;
                    serde_json::from_str::<Answer>(&answer).ok()
                }
            })
            .await
            .unwrap(),
            Some(Answer::Done { .. })
        ) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("root was locked out");
}

/// Runs this test binary again as another user and has it send a request; `None`: it could not even connect.
fn as_user(socket: &Path, uid: u32, gid: u32, groups: &[u32], request: &str) -> Option<Answer> {
    // The test binary lies where other users may not look: they get a copy.
    let copy = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = copy.path().join("caller");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let groups: Vec<_> = groups.iter().map(|group| nix::unistd::Gid::from_raw(*group)).collect();
    let mut command = Command::new(&program);
    command
        .args(["--ignored", "--exact", "api::server::tests::call_as_this_user", "--nocapture"])
        .env("BRATTICE_TEST_SOCKET", socket)
        .env("BRATTICE_TEST_REQUEST", request)
        .current_dir("/")
        .stdin(Stdio::null());
    #[allow(unsafe_code, reason = "supplementary groups of a child can only be set between fork and exec")]
    // SAFETY: only async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setgroups(&groups)?;
            nix::unistd::setgid(nix::unistd::Gid::from_raw(gid))?;
            nix::unistd::setuid(nix::unistd::Uid::from_raw(uid))?;
            Ok(())
        });
    }
    // Another test may fork while the copy is still open for writing, and its child holds it until it executes.
    let deadline = Instant::now() + Duration::from_secs(5);
    let output = loop {
        match command.output() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            output => break output.unwrap(),
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("ANSWER ")).unwrap_or_else(|| panic!("{text}")).1;
    serde_json::from_str(line).unwrap()
}

#[test]
#[ignore = "run by other tests as another user"]
fn call_as_this_user() {
    let answer = || -> Option<Answer> {
        let mut stream = Client::connect(std::env::var_os("BRATTICE_TEST_SOCKET")?).ok()?;
        let request = std::env::var("BRATTICE_TEST_REQUEST").ok()?;
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    };
    println!("ANSWER {}", serde_json::to_string(&answer()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_groups() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let (_root, socket) = server().await;
    let status = "{\"verb\":\"status\"}\n";
    let switch =
        serde_json::to_string(&Request::Switch { mode: Mode::Bypass, scope: Scope::All, on: true, seconds: None })
            .unwrap()
            + "\n";
    // An unknown caller does not get past the directory.
    assert_eq!(as_user(&socket, STRANGER, STRANGER, &[], status), None);
    // Were the directory open, the kernel's word still counts.
    std::fs::set_permissions(socket.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    is_error(&as_user(&socket, STRANGER, STRANGER, &[], status).unwrap(), ErrorCode::Forbidden, "neither root");
    // Members may ask, by either kind of membership, and change nothing.
    assert!(matches!(as_user(&socket, STRANGER, GROUP, &[], status), Some(Answer::Done { .. })));
    assert!(matches!(as_user(&socket, STRANGER, STRANGER, &[GROUP], status), Some(Answer::Done { .. })));
    is_error(&as_user(&socket, STRANGER, STRANGER, &[GROUP], &switch).unwrap(), ErrorCode::Forbidden, "only root");
    let about = brattice_wire::api::Subject::MadeUp(brattice_wire::explain::Question::default());
    let explain = serde_json::to_string(&Request::Explain { about: Box::new(about) }).unwrap() + "\n";
    assert!(matches!(as_user(&socket, STRANGER, GROUP, &[], &explain), Some(Answer::Done { .. })));
    is_error(&as_user(&socket, STRANGER, STRANGER, &[], &explain).unwrap(), ErrorCode::Forbidden, "neither root");
    // A connection of a user without permission is not handed on.
    is_error(
        &as_user(&socket, ENGINE, GROUP, &[], "{\"verb\":\"flows\"}\n").unwrap(),
        ErrorCode::Forbidden,
        "engine's user",
    );
    // The engine is in the group, because of the directory, and is refused all the same.
    is_error(&as_user(&socket, ENGINE, GROUP, &[], status).unwrap(), ErrorCode::Forbidden, "engine's user");
    assert!(matches!(as_user(&socket, 0, 0, &[], &switch), Some(Answer::Done { .. })));
}

/// Opens a connection to the API as another user: the raw calls change the thread alone.
fn connect_as(socket: &Path, uid: u32, gid: u32) -> Client {
    let socket = socket.to_owned();
    let connect = move || {
        #[allow(unsafe_code, reason = "one thread becomes another user, which only the raw calls do")]
        // SAFETY: integers only, and a list of length 0.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        Client::connect(socket).unwrap()
    };
    std::thread::spawn(connect).join().unwrap()
}

/// Sends "status" and nothing more; `None`: the connection was closed without an answer.
async fn asks(mut stream: Client) -> Option<Answer> {
    let ask = move || {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(b"{\"verb\":\"status\"}\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        serde_json::from_str(&answer).ok()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_callers_take_no_place() {
    let (_root, socket) = server().await;
    std::fs::set_permissions(socket.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut refused = Vec::new();
    for round in 0..10 {
        // None of them hangs up.
        refused.extend((0..2 * MAX_CONNECTIONS).map(|_| connect_as(&socket, STRANGER, STRANGER)));
        let member = asks(connect_as(&socket, STRANGER, GROUP)).await;
        assert!(matches!(member, Some(Answer::Done { .. })), "round {round}: {member:?}");
        assert!(matches!(asks(Client::connect(&socket).unwrap()).await, Some(Answer::Done { .. })), "round {round}");
    }
    // The control: users with permission do share places.
    let idle: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect_as(&socket, STRANGER, GROUP)).collect();
    let without = asks(connect_as(&socket, STRANGER, GROUP)).await;
    assert!(matches!(without, Some(Answer::Error { code: ErrorCode::Busy, .. })), "{without:?}");
    assert!(matches!(asks(Client::connect(&socket).unwrap()).await, Some(Answer::Done { .. })), "but not root's");
    drop(idle);
}

/// Counts the lines that are logged.
struct Lines(Arc<std::sync::atomic::AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target().starts_with("brattice") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// On one thread, as the lines are counted there.
#[tokio::test]
async fn refused_callers_do_not_fill_the_log() {
    let lines = Arc::<std::sync::atomic::AtomicUsize>::default();
    let _counted = tracing::subscriber::set_default(tracing_subscriber::registry().with(Lines(lines.clone())));
    let (_root, socket) = server().await;
    std::fs::set_permissions(socket.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut forbidden = 0;
    for _ in 0..200 {
        forbidden += usize::from(asks(connect_as(&socket, STRANGER, STRANGER)).await.is_some());
    }
    assert!(forbidden > 10, "they are told why: {forbidden}");
    let written = lines.load(Ordering::Relaxed);
    // Of two places that log, for the time that this takes.
    assert!((1..=40).contains(&written), "{written} lines of 200 callers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_place_is_told_so() {
    let (_root, socket) = server().await;
    let idle: Vec<Client> = (0..MAX_CONNECTIONS).map(|_| Client::connect(&socket).unwrap()).collect();
    let request = "{\"verb\":\"workloads\"}\n";
    // Whether the request was read or not: the answer comes before a reset.
    let answered = |bytes: &'static str| {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = Client::connect(socket).unwrap();
            let _ = stream.write_all(bytes.as_bytes());
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            serde_json::from_slice::<Answer>(&answer).unwrap()
        })
    };
    for request in [request, ""] {
        is_error(&answered(request).await.unwrap(), ErrorCode::Busy, "as many as may be root's at once");
    }
    drop(idle);
    // Control: with a place again it gets its answer.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !matches!(answered(request).await.unwrap(), Answer::Done { .. }) {
        assert!(Instant::now() < deadline, "no place is free again");
    }
}
