//! What the agent opens for the engine, which may open nothing itself: the access log and the metrics' listening socket.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use brattice_wire::engine::AccessLog;
use rustix::net::sockopt;

use super::sockets::drain;

/// Scrapers that are closed at once where no engine serves: what a backlog holds.
const DRAIN: usize = 4_096;
/// Mode of an access log that is made: only root and the group may read who calls what.
const LOG_MODE: u32 = 0o640;

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogDestination {
    /// Nowhere.
    #[default]
    None,
    /// To the agent's standard output.
    Stdout,
    /// To a file, which is opened again at SIGHUP.
    File(PathBuf),
}

impl FromStr for LogDestination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "stdout" | "-" => Ok(Self::Stdout),
            "" => Err("nothing; use stdout, the path of a file, or none".to_owned()),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// Where metrics are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsAddress {
    /// Nowhere.
    #[default]
    None,
    /// On a loopback address.
    Tcp(SocketAddr),
    /// On a Unix socket for root and the read-only group.
    Unix(PathBuf),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "use a loopback address such as 127.0.0.1:9464, unix:PATH, or none";
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(format!("unix: without a path; {wanted}"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| format!("{text:?} is no address with a port; {wanted}"))?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{address} can be reached from outside this host, and metrics tell who calls what without asking who reads them; {wanted}, and let a collector on this host forward them"
            ));
        }
        if address.port() == 0 {
            return Err(format!("{address}: port 0 would be another one after every start; {wanted}"));
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Opens the access log; `None` where there is to be none.
///
/// # Errors
/// When it cannot be opened for appending, or is neither a file nor something that takes a stream.
pub fn open_log(destination: &LogDestination, sample: u32) -> io::Result<Option<(AccessLog, OwnedFd)>> {
    let file: File = match destination {
        LogDestination::None => return Ok(None),
        LogDestination::Stdout => io::stdout().as_fd().try_clone_to_owned()?.into(),
        // A named pipe without a reader must not keep the agent waiting.
        LogDestination::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(LOG_MODE)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|e| match e.raw_os_error() {
                Some(libc::ENXIO) => {
                    io::Error::new(e.kind(), "no process reads this named pipe; start its reader first")
                }
                _ => e,
            })?,
    };
    let regular = file.metadata()?.is_file();
    Ok(Some((AccessLog { sample, file: regular }, file.into())))
}

/// The metrics' listening socket. The agent keeps it, so that it outlives engines.
pub(super) struct Metrics {
    address: MetricsAddress,
    group: u32,
    listener: Option<OwnedFd>,
}

impl Metrics {
    pub(super) fn new(address: MetricsAddress, group: u32) -> Self {
        Self { address, group, listener: None }
    }

    /// A running engine shows the socket that an earlier agent gave it. True: it is what is wanted, and kept.
    pub(super) fn adopt(&mut self, shown: OwnedFd) -> bool {
        if sockopt::socket_acceptconn(&shown).ok() != Some(true) {
            return false;
        }
        let fits = match &self.address {
            MetricsAddress::None => false,
            MetricsAddress::Tcp(address) => shown
                .try_clone()
                .is_ok_and(|fd| TcpListener::from(fd).local_addr().is_ok_and(|local| local == *address)),
            MetricsAddress::Unix(path) => {
                let local = shown.try_clone().map(UnixListener::from).and_then(|listener| listener.local_addr());
                local.is_ok_and(|local| local.as_pathname() == Some(path)) && is_socket(path)
            }
        };
        if fits {
            self.listener = Some(shown);
        }
        fits
    }

    /// The socket, made if there is none yet; `None` where there is to be none.
    ///
    /// # Errors
    /// When it cannot be made, in a sentence.
    pub(super) fn listener(&mut self) -> Result<Option<OwnedFd>, String> {
        if self.listener.is_none() {
            self.listener = match &self.address {
                MetricsAddress::None => return Ok(None),
                MetricsAddress::Tcp(address) => TcpListener::bind(address).map(|listener| Some(listener.into())),
                MetricsAddress::Unix(path) => bind_unix(path, self.group).map(|listener| Some(listener.into())),
            }
            .map_err(|e| self.failed(&e))?;
        }
        let copy = self.listener.as_ref().map(OwnedFd::try_clone).transpose();
        copy.map_err(|e| self.failed(&e))
    }

    /// Closes connections that no engine accepts: a scraper sees at once that there is none, instead of waiting.
    pub(super) fn drain(&self) {
        if let Some(listener) = &self.listener {
            drain(listener.as_fd(), DRAIN);
        }
    }

    fn failed(&self, e: &io::Error) -> String {
        let hint = match e.kind() {
            io::ErrorKind::AddrInUse => "; something else listens there: name another place with --metrics",
            _ => "",
        };
        format!("metrics are not served at {}: {e}{hint}", self.address)
    }
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// For root and the group, like the API's socket.
fn bind_unix(path: &Path, group: u32) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Left behind by an earlier agent; a file that is no socket belongs to other software.
    if is_socket(path) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::os::unix::fs::chown(path, Some(0), Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn only_loopback_addresses_and_unix_sockets_are_taken() {
        for good in ["127.0.0.1:9464", "127.1.2.3:80", "[::1]:9464", "unix:/run/x.sock", "none"] {
            let parsed: MetricsAddress = good.parse().unwrap();
            assert_eq!(parsed.to_string(), good);
        }
        for (bad, why) in [
            ("0.0.0.0:9464", "from outside"),
            ("[::]:9464", "from outside"),
            ("192.0.2.1:9464", "from outside"),
            ("127.0.0.1:0", "port 0"),
            ("127.0.0.1", "no address with a port"),
            ("localhost:9464", "no address with a port"),
            ("unix:", "without a path"),
            ("", "no address"),
        ] {
            let error = bad.parse::<MetricsAddress>().unwrap_err();
            assert!(error.contains(why) && error.contains("127.0.0.1:9464"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_log_is_appended_to_and_a_pipe_needs_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "old\n").unwrap();
        let (log, fd) = open_log(&LogDestination::File(path.clone()), 7).unwrap().unwrap();
        assert_eq!(log, AccessLog { sample: 7, file: true });
        File::from(fd).write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\nnew\n");

        let new = folder.path().join("new.log");
        open_log(&LogDestination::File(new.clone()), 1).unwrap();
        assert_eq!(std::fs::metadata(new).unwrap().mode() & 0o027, 0);

        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = open_log(&LogDestination::File(pipe.clone()), 1).unwrap_err();
        assert!(refused.to_string().contains("no process reads"), "{refused}");
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
        let (log, fd) = open_log(&LogDestination::File(pipe), 1).unwrap().unwrap();
        assert!(!log.file);
        File::from(fd).write_all(b"x").unwrap();
        let mut read = [0];
        (&reader).read_exact(&mut read).unwrap();
        assert_eq!(read, *b"x");
        assert!(open_log(&LogDestination::None, 1).unwrap().is_none());
        assert!(open_log(&LogDestination::File(folder.path().into()), 1).is_err(), "a directory");
    }

    #[test]
    fn a_socket_is_made_once_and_taken_over_where_it_fits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let group = rustix::process::getegid().as_raw();
        let address = MetricsAddress::Unix(path.clone());
        let mut first = Metrics::new(address.clone(), group);
        let listener = first.listener().unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let inode = std::fs::metadata(&path).unwrap().ino();
        first.listener().unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "made once");

        let mut other = Metrics::new(address.clone(), group);
        assert!(other.listener().unwrap_err().contains("something else listens"), "while the first one lives");
        assert!(!Metrics::new(MetricsAddress::None, group).adopt(listener.try_clone().unwrap()));
        assert!(!Metrics::new("127.0.0.1:9464".parse().unwrap(), group).adopt(listener.try_clone().unwrap()));
        let (no_listener, _) = UnixStream::pair().unwrap();
        assert!(!other.adopt(no_listener.into()));
        assert!(other.adopt(listener));
        other.listener().unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "taken over");

        drop((first, other));
        assert!(UnixStream::connect(&path).is_err(), "nobody listens any more");
        let mut next = Metrics::new(address, group);
        next.listener().unwrap().unwrap();
        assert!(UnixStream::connect(&path).is_ok(), "what a dead agent left is replaced");
    }

    /// Of either kind; the deadline is that of a hung test, never reached.
    #[test]
    fn a_scraper_that_no_engine_answers_does_not_wait() {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = folder.path().join("metrics.sock");
        let group = rustix::process::getegid().as_raw();
        let deadline = Some(std::time::Duration::from_secs(20));

        let mut metrics = Metrics::new(MetricsAddress::Unix(path.clone()), group);
        metrics.drain();
        metrics.listener().unwrap().unwrap();
        let mut scraper = UnixStream::connect(&path).unwrap();
        scraper.set_read_timeout(deadline).unwrap();
        metrics.drain();
        assert_eq!(scraper.read(&mut [0]).unwrap_or(0), 0, "closed");

        let mut metrics = Metrics::new(MetricsAddress::Tcp(free), group);
        let listener = metrics.listener().unwrap().unwrap();
        let mut scraper = std::net::TcpStream::connect(free).unwrap();
        scraper.set_read_timeout(deadline).unwrap();
        metrics.drain();
        let reset = scraper.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        // The socket is kept for the next engine.
        let _later = std::net::TcpStream::connect(free).unwrap();
        assert!(TcpListener::from(listener).accept().is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        Metrics::new(MetricsAddress::Unix(path.clone()), 0).listener().unwrap_err();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "data");
    }
}
