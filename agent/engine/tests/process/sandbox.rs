//! What an attacker who runs code inside the engine can still do.
#![allow(unsafe_code, reason = "the tests make the very calls that must fail")]

use std::{
    ffi::CString,
    io::Write,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Child, Command, ExitCode, Stdio},
};

use crate::{
    CHILD, Test,
    agent::{ENGINE_GID, ENGINE_UID, assert_unprivileged},
};

pub(crate) const TESTS: &[Test] = &[
    ("sandbox::everything_is_given_up", everything_is_given_up),
    ("sandbox::calls_beyond_need_fail", calls_beyond_need_fail),
    ("sandbox::fatal_calls_kill", fatal_calls_kill),
    ("sandbox::what_the_engine_needs_works", what_the_engine_needs_works),
    ("sandbox::root_is_no_engine_user", root_is_no_engine_user),
];

/// Starts this program again in a role.
pub(crate) fn start(role: &str) -> Child {
    start_with(role, Stdio::piped())
}

/// As [`start`], with this as its standard input.
pub(crate) fn start_with(role: &str, stdin: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap()).env(CHILD, role).stdin(stdin).stdout(Stdio::piped()).spawn().unwrap()
}

/// What this program does in a role: `engine`, `probe <socket>`, `fatal <call>` or `root`; `free` and `harmless <call>` are
/// `probe` and `fatal` without the sandbox.
pub(crate) fn child(role: &str) -> ExitCode {
    let (what, argument) = role.split_once(' ').unwrap_or((role, ""));
    match what {
        "engine" => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
            let args = brattice_engine::Args { uid: ENGINE_UID, gid: ENGINE_GID };
            match brattice_engine::run(args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("{error}");
                    ExitCode::from(3)
                }
            }
        }
        "root" => {
            let error = brattice_engine::sandbox::enter(0, 0).unwrap_err();
            println!("{error}");
            ExitCode::SUCCESS
        }
        // The controls: the same calls before anything is given up.
        "free" => {
            probe(argument);
            ExitCode::SUCCESS
        }
        "harmless" => {
            // As a user without rights, so that nothing of the machine is changed.
            // SAFETY: integers only; whatever the call answers, zeros are nothing it could write to.
            unsafe {
                assert_eq!(libc::setresgid(ENGINE_GID, ENGINE_GID, ENGINE_GID), 0);
                assert_eq!(libc::setresuid(ENGINE_UID, ENGINE_UID, ENGINE_UID), 0);
                libc::syscall(argument.parse().unwrap(), 0, 0, 0, 0, 0, 0);
            }
            println!("returned");
            ExitCode::SUCCESS
        }
        _ => {
            let missing = brattice_engine::sandbox::enter(ENGINE_UID, ENGINE_GID).unwrap();
            println!("missing {missing:?}");
            match what {
                "fatal" => {
                    let call = argument.parse().unwrap();
                    // SAFETY: the filter kills the process before the call does anything.
                    unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
                }
                "needs" => needs(),
                _ => probe(argument),
            }
            println!("end");
            std::io::stdout().flush().unwrap();
            // Until the parent has looked from outside.
            let _ = std::io::stdin().read_line(&mut String::new());
            ExitCode::SUCCESS
        }
    }
}

fn report(name: &str, result: libc::c_long) {
    let error = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    println!("{name} {error}");
}

/// Calls that must fail, and with what; without the sandbox, none of them fails so.
const REFUSED: &[(&str, i32)] = &[
    ("open_passwd", libc::EPERM),
    ("open_write", libc::EPERM),
    ("mkdir", libc::EPERM),
    ("unlink", libc::EPERM),
    ("stat", libc::EPERM),
    ("socket_packet", libc::EPERM),
    ("socket_raw", libc::EPERM),
    ("socket_netlink", libc::EPERM),
    ("socket_unix_stream", libc::EPERM),
    ("socket_unix_datagram", libc::EPERM),
    ("socket_unix_seqpacket", libc::EPERM),
    ("socketpair_unix_datagram", libc::EPERM),
    ("host_takes_a_byte", libc::EPERM),
    ("socket_vsock", libc::EPERM),
    ("listen", libc::EPERM),
    ("bind_port", libc::EACCES),
    ("fork", libc::EPERM),
    ("clone3", libc::ENOSYS),
    ("kill", libc::EPERM),
    ("tgkill_parent", libc::EPERM),
    ("memory_executable", libc::EPERM),
    ("memory_becomes_executable", libc::EPERM),
    ("memfd", libc::EPERM),
    ("setuid", libc::EPERM),
    ("seccomp", libc::EPERM),
    ("attach_filter", libc::EPERM),
    ("tiocsti", libc::EPERM),
    ("chdir", libc::EPERM),
    ("setrlimit", libc::EPERM),
];

/// `socket`: where root of the host listens, for all users.
fn probe(socket: &str) {
    let name = |kind: &str| CString::new(format!("/tmp/brattice-{kind}-{}", std::process::id())).unwrap();
    let (file, folder) = (name("file"), name("folder"));
    // SAFETY: plain calls with valid pointers; without the sandbox they do no harm either.
    unsafe {
        let path = c"/etc/passwd".as_ptr();
        report("open_passwd", libc::open(path, libc::O_RDONLY).into());
        report("open_write", libc::open(file.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600).into());
        report("mkdir", libc::mkdir(folder.as_ptr(), 0o700).into());
        report("unlink", libc::unlink(file.as_ptr()).into());
        libc::rmdir(folder.as_ptr());
        report("stat", libc::stat(path, &raw mut *Box::new(std::mem::zeroed())).into());
        report("socket_packet", libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into());
        report("socket_raw", libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP).into());
        report("socket_netlink", libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).into());
        report("socket_unix_datagram", libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).into());
        report("socket_unix_stream", libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).into());
        report("socket_unix_seqpacket", libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0).into());
        let mut pair = [0; 2];
        let made = libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr());
        report("socketpair_unix_datagram", made.into());
        report("host_takes_a_byte", speak(socket));
        report("socket_vsock", libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).into());
        let tcp = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        report("listen", libc::listen(tcp, 1).into());
        report("bind_port", bind(tcp, 18_999));
        let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(0);
        }
        report("fork", child);
        report("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        report("kill", libc::kill(libc::getpid(), 0).into());
        report("tgkill_parent", libc::syscall(libc::SYS_tgkill, 1, 1, 0));
        let exec = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        report("memory_executable", libc::mmap(std::ptr::null_mut(), 4096, exec, flags, -1, 0) as libc::c_long);
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        report("memory_becomes_executable", libc::mprotect(page, 4096, exec).into());
        report("memfd", libc::memfd_create(c"x".as_ptr(), 0).into());
        report("setuid", libc::setuid(0).into());
        // Whether an action is there; without one to look at, EFAULT.
        report("seccomp", libc::syscall(libc::SYS_seccomp, 2, 0, 0));
        let filter = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
        let size = libc::socklen_t::try_from(size_of_val(&filter)).unwrap();
        let result = libc::setsockopt(tcp, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size);
        report("attach_filter", result.into());
        report("tiocsti", libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()).into());
        report("chdir", libc::chdir(c"/".as_ptr()).into());
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        report("setrlimit", libc::setrlimit(libc::RLIMIT_CPU, &raw const limit).into());
    }
}

/// Sends a byte to the listener of a Unix socket; -1 and `errno` where that fails.
unsafe fn speak(path: &str) -> libc::c_long {
    // SAFETY: a valid address for the length of the calls.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap();
        for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
            *to = from.cast_signed();
        }
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
        let connect = |socket| libc::connect(socket, (&raw const address).cast(), size);
        // What it may make is connected to itself, and to nothing else.
        let mut pair = [0; 2];
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()), 0);
        assert_eq!(connect(pair[0]), -1);
        let to = (&raw const address).cast();
        assert_eq!(libc::sendto(pair[0], c"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL, to, size), -1);
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        if socket < 0 || connect(socket) < 0 {
            return -1;
        }
        libc::send(socket, c"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL) as libc::c_long
    }
}

unsafe fn bind(socket: i32, port: u16) -> libc::c_long {
    // SAFETY: a valid address for the length of the call.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
        address.sin_port = port.to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
        libc::bind(socket, (&raw const address).cast(), size).into()
    }
}

/// Threads, timers, sockets, a source address, allocation, a thread's panic.
fn needs() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true).unwrap();
            socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
            let refused = socket.connect("127.0.0.1:9".parse().unwrap()).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            let datagrams = tokio::net::UdpSocket::bind("127.0.0.9:0").await.unwrap();
            datagrams.send_to(b"x", datagrams.local_addr().unwrap()).await.unwrap();
            datagrams.recv_from(&mut [0; 8]).await.unwrap();
        });
        let memory: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 1 << 20]).collect();
        assert_eq!(memory.iter().map(Vec::len).sum::<usize>(), 64 << 20);
    })
    .join()
    .unwrap();
    println!("thread ok");
    // A panic prints and unwinds; it must not end in a killed process.
    let panicked = std::thread::spawn(|| panic!("expected by the test")).join().is_err();
    println!("panic {panicked}");
}

fn output(role: &str) -> String {
    let child = start(role);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{role}: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn everything_is_given_up() {
    let mut child = start("probe /nowhere");
    let mut seen = String::new();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    while let Some(Ok(line)) = lines.next() {
        let end = line == "end";
        seen.push_str(&line);
        if end {
            break;
        }
    }
    assert!(seen.contains("missing []"), "this kernel offers all parts: {seen}");
    assert_unprivileged(child.id());
    child.stdin.take();
    assert!(child.wait().unwrap().success());
}

fn calls_beyond_need_fail() {
    // As a daemon of root's that all users may talk to: journald, D-Bus.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("daemon.sock");
    let daemon = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    daemon.set_nonblocking(true).unwrap();
    let output = output(&format!("probe {}", path.display()));
    assert!(daemon.accept().is_err(), "nobody called");
    for (name, errno) in REFUSED {
        assert!(output.lines().any(|line| line == format!("{name} {errno}")), "{name} is not refused:\n{output}");
    }
    let free = self::output(&format!("free {}", path.display()));
    let mut heard = [0; 2];
    assert_eq!(
        std::io::Read::read(&mut daemon.accept().unwrap().0, &mut heard).unwrap(),
        1,
        "without the sandbox it heard"
    );
    for (name, errno) in REFUSED {
        let other = free.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<i32>().ok());
        let other: Vec<i32> = other.collect();
        assert!(matches!(other[..], [answer] if answer != *errno), "{name} fails without the sandbox, too:\n{free}");
    }
}

fn fatal_calls_kill() {
    for call in brattice_engine::sandbox::FATAL {
        let status = start(&format!("fatal {call}")).wait_with_output().unwrap().status;
        assert_eq!(status.signal(), Some(libc::SIGSYS), "system call {call}");
        let free = output(&format!("harmless {call}"));
        assert_eq!(free, "returned\n", "system call {call}");
    }
}

fn what_the_engine_needs_works() {
    let output = output("needs");
    assert!(output.contains("thread ok") && output.contains("panic true"), "{output}");
}

fn root_is_no_engine_user() {
    assert!(output("root").contains("must not be root"));
}
