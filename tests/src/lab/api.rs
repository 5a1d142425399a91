//! The agent's socket, as the CLI uses it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    time::Duration,
};

use brattice_wire::api::{Answer, Request, ServiceView, Status, WorkloadView};

use super::{Lab, eventually, wait_until};

/// How long a change may take to be in force everywhere.
pub const SETTLE: Duration = Duration::from_secs(10);

impl Lab {
    /// Asks the agent.
    ///
    /// # Errors
    /// When it is not there or does not answer within 5 s.
    pub fn ask(&self, request: &Request) -> Result<Answer, String> {
        let mut line = serde_json::to_string(request).map_err(|error| error.to_string())?;
        line.push('\n');
        let text = self.ask_raw(line.as_bytes())?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// Sends bytes to the agent's socket; returns the line it answers.
    ///
    /// # Errors
    /// When it is not there or does not answer within 5 s.
    pub fn ask_raw(&self, bytes: &[u8]) -> Result<String, String> {
        let path = self.run_dir().join("agent.sock");
        let mut stream = UnixStream::connect(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        stream.write_all(bytes).map_err(|error| error.to_string())?;
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut text = String::new();
        BufReader::new(stream).read_line(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// `brattice status`.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn try_status(&self) -> Result<Status, String> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            other => Err(format!("no status: {other:?}")),
        }
    }

    /// `brattice status` of an agent that must answer within 5 s.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn status(&self) -> Status {
        eventually("the agent answers", Duration::from_secs(5), || self.try_status())
    }

    /// `brattice services`.
    ///
    /// # Panics
    /// When the agent does not answer.
    #[track_caller]
    pub fn services(&self) -> Vec<ServiceView> {
        match self.ask(&Request::Services) {
            Ok(Answer::Services(services)) => services,
            other => panic!("no services: {other:?}"),
        }
    }

    /// `brattice workloads`.
    ///
    /// # Panics
    /// When the agent does not answer.
    #[track_caller]
    pub fn workloads(&self) -> Vec<WorkloadView> {
        match self.ask(&Request::Workloads) {
            Ok(Answer::Workloads(workloads)) => workloads,
            other => panic!("no workloads: {other:?}"),
        }
    }

    /// A service by `account/name`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn service(&self, name: &str) -> ServiceView {
        eventually(&format!("a service {name}"), SETTLE, || {
            let services = match self.ask(&Request::Services)? {
                Answer::Services(services) => services,
                other => return Err(format!("{other:?}")),
            };
            services
                .iter()
                .find(|service| service.name == name)
                .cloned()
                .ok_or_else(|| format!("{:?}", services.iter().map(|s| &s.name).collect::<Vec<_>>()))
        })
    }

    /// VIP and port of a service.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn vip(&self, service: &str, port: u16) -> SocketAddr {
        let view = self.service(service);
        let ip: Ipv4Addr = view.vip.parse().unwrap_or_else(|_| panic!("{} has the VIP {:?}", view.name, view.vip));
        SocketAddr::new(IpAddr::V4(ip), port)
    }

    /// IPv6 VIP and port of a service.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn vip6(&self, service: &str, port: u16) -> SocketAddr {
        let view = self.service(service);
        let vip = view.vip6.as_deref().unwrap_or_else(|| panic!("{} has no IPv6 VIP", view.name));
        SocketAddr::new(vip.parse().unwrap_or_else(|_| panic!("{} has the VIP {vip:?}", view.name)), port)
    }

    /// The alias of a workload by its host-side interface and real address, once it is attached.
    ///
    /// # Panics
    /// When it has none within 10 s.
    #[track_caller]
    pub fn alias(&self, interface: &str, address: impl Into<IpAddr>) -> IpAddr {
        let address = address.into();
        eventually(&format!("an alias of {address} on {interface}"), SETTLE, || {
            let workloads = match self.ask(&Request::Workloads)? {
                Answer::Workloads(workloads) => workloads,
                other => return Err(format!("{other:?}")),
            };
            workloads
                .iter()
                .filter(|workload| workload.interface == interface && workload.state == "attached")
                .find_map(|workload| workload.addresses.get(&address.to_string())?.parse().ok())
                .ok_or_else(|| format!("{workloads:?}"))
        })
    }

    /// Waits until what the agent planned is in force in the engine, and its revision is above `before`.
    ///
    /// # Panics
    /// When that does not happen within 10 s.
    #[track_caller]
    pub fn settled_after(&self, before: u64) -> u64 {
        eventually(&format!("a revision after {before} is in force"), SETTLE, || {
            let status = self.try_status()?;
            if status.revision > before && status.engine.revision == status.revision {
                Ok(status.revision)
            } else {
                Err(format!("agent at {}, engine at {}", status.revision, status.engine.revision))
            }
        })
    }

    /// Writes a policies file and waits until the change is in force.
    ///
    /// # Panics
    /// When it is not within 10 s.
    #[track_caller]
    pub fn apply(&self, path: &str, text: &str) -> u64 {
        let before = self.status().revision;
        self.write(path, text);
        self.settled_after(before)
    }

    /// Waits until this drop counter is at least `least`.
    ///
    /// # Panics
    /// When it is not within 5 s.
    #[track_caller]
    pub fn dropped(&self, reason: &str, least: u64) {
        let mut seen = 0;
        wait_until(&format!("{least} drops of {reason}"), Duration::from_secs(5), || {
            seen = self.drops(reason);
            seen >= least
        });
    }

    /// A drop counter now.
    ///
    /// # Panics
    /// When the agent does not answer.
    #[track_caller]
    pub fn drops(&self, reason: &str) -> u64 {
        self.status().drops.get(reason).copied().unwrap_or(0)
    }
}
