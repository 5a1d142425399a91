//! The embedded eBPF object: what it defines, loading and pinning it, comparing it with what is pinned.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use aya::EbpfLoader;
use aya::maps::MapInfo;
use aya::programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, SkLookup};
use aya_log::Level;
use brattice_abi as abi;

use crate::cgroup_hooks::HOOKS;
use crate::options::EbpfLog;
use crate::pins::{PROGRAMS, Pins};
use crate::sys::{self, Map, ProgramInfo};
use crate::{Error, Result};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/brattice.bpf.o"));

/// Size of a `SOCKETS` value: only with 8 bytes does the kernel tell a slot's socket cookie.
const COOKIE: u32 = 8;

/// The ring buffer of aya-log, and its size in bytes while debug lines are off: a page, the smallest size.
const LINES: &str = "AYA_LOGS";
const NO_LINES: u32 = 4096;
/// The largest page of any architecture; with lines it has twice that.
const LARGEST_PAGE: u32 = 65_536;

/// How often a program is loaded before a signal in between counts as a failure. libbpf tries 5 times, which was not enough
/// beside hundreds of processes that came and went.
const LOADS: usize = 25;

/// Sizes that both sides agreed on: name, key, value. `SOCKETS` and `EVENTS` have none that the programs define.
const SIZES: [(&str, usize, usize); 12] = [
    (abi::CONFIG, 4, size_of::<abi::Config>()),
    (abi::WORKLOADS, size_of::<abi::WorkloadKey>(), size_of::<abi::Workload>()),
    (abi::ALIASES, size_of::<abi::Address>(), size_of::<abi::Alias>()),
    (abi::TARGETS, size_of::<abi::TargetKey>(), 4),
    (abi::LISTENERS, size_of::<abi::ListenerKey>(), size_of::<abi::Listener>()),
    (abi::SWITCHES, size_of::<abi::SwitchKey>(), size_of::<abi::Switch>()),
    (abi::INTERCEPTS, size_of::<abi::InterceptKey>(), size_of::<abi::Intercept>()),
    (abi::INTERCEPT_COUNTS, 4, size_of::<abi::HalfOpenCount>()),
    (abi::HALF_OPEN, size_of::<abi::FlowKey>(), size_of::<abi::HalfOpen>()),
    (abi::HALF_OPEN_COUNTS, 4, size_of::<abi::HalfOpenCount>()),
    (abi::COUNTERS, 4, 8),
    (abi::WORKERS, 4, size_of::<abi::WorkerState>()),
];

/// A map as the object or the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

impl Shape {
    fn differs(self, wanted: Self) -> Option<String> {
        (self != wanted).then(|| format!("it has {self:?}, this build {wanted:?}"))
    }
}

/// The programs, by their pins.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) ingress: Loaded,
    pub(crate) egress: Loaded,
    pub(crate) listener: Loaded,
    /// Those of the cgroups' root, by name; in the order of [`HOOKS`].
    pub(crate) hosts: Vec<(&'static str, Loaded)>,
}

impl Programs {
    /// All of them, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Loaded)> {
        [
            (abi::WORKLOAD_INGRESS, &self.ingress),
            (abi::WORKLOAD_EGRESS, &self.egress),
            (abi::VIP_LISTENER, &self.listener),
        ]
        .into_iter()
        .chain(self.hosts.iter().map(|(name, loaded)| (*name, loaded)))
    }
}

/// A program in the kernel.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) fd: OwnedFd,
    pub(crate) id: u32,
    instructions: u32,
    map_ids: Vec<u32>,
}

impl Programs {
    /// Whether they send lines. The size of their ring buffer shows it; programs that were built without one send none.
    pub(crate) fn ebpf_log(&self) -> EbpfLog {
        let lines = |id: &u32| {
            MapInfo::from_id(*id).is_ok_and(|map| map.name_as_str() == Some(LINES) && map.max_entries() > LARGEST_PAGE)
        };
        if self.ingress.map_ids.iter().any(lines) { EbpfLog::Debug } else { EbpfLog::Off }
    }

    /// How many instructions the verifier went through for a program; 0 if the kernel does not say.
    pub(crate) fn instructions(&self, name: &str) -> u32 {
        self.all().find(|(own, _)| *own == name).map_or(0, |(_, loaded)| loaded.instructions)
    }
}

/// What the object defines; an error if something is missing or was built from other sources than this crate.
fn shapes() -> Result<BTreeMap<&'static str, Shape>> {
    let object = aya_obj::Object::parse(OBJECT).map_err(|e| Error::Object(Box::new(e)))?;
    let mut shapes = BTreeMap::new();
    for name in abi::ALL_MAPS {
        let map = object.maps.get(*name).ok_or(Error::MissingInObject { kind: "map", name })?;
        let shape =
            Shape { kind: map.map_type(), key: map.key_size(), value: map.value_size(), entries: map.max_entries() };
        if let Some((_, key, value)) = SIZES.iter().find(|(n, ..)| n == name)
            && (shape.key as usize, shape.value as usize) != (*key, *value)
        {
            return Err(Error::Layout {
                name: format!("map {name} of the embedded object"),
                detail: format!(
                    "its key and value have {} and {} bytes, not {key} and {value}",
                    shape.key, shape.value
                ),
            });
        }
        shapes.insert(*name, shape);
    }
    if let Some(sockets) = shapes.get_mut(abi::SOCKETS) {
        sockets.value = COOKIE;
    }
    for name in PROGRAMS {
        if !object.programs.contains_key(name) {
            return Err(Error::MissingInObject { kind: "program", name });
        }
    }
    Ok(shapes)
}

/// A loader with the constant that says whether programs send lines.
fn loader(log: EbpfLog) -> EbpfLoader<'static> {
    static OFF: u8 = 0;
    static DEBUG: u8 = Level::Debug as u8;
    let mut loader = EbpfLoader::new();
    match log {
        EbpfLog::Off => loader.override_global(aya_log::LEVEL, &OFF, true).map_max_entries(LINES, NO_LINES),
        EbpfLog::Debug => loader.override_global(aya_log::LEVEL, &DEBUG, true),
    };
    loader
}

/// Loads the object and pins its maps and programs. Nothing may be pinned there.
pub(crate) fn load(pins: &Pins, log: EbpfLog) -> Result<Programs> {
    let shapes = shapes()?;
    let slots = shapes.get(abi::SOCKETS).map_or(abi::SLOTS, |s| s.entries);
    let sockets = sys::sockmap_create(abi::SOCKETS, slots).map_err(Error::bpf("making map SOCKETS"))?;
    sys::obj_pin(sockets.as_fd(), &pins.map(abi::SOCKETS)).map_err(Error::bpf("pinning map SOCKETS"))?;
    for (name, program) in load_programs(pins, log)? {
        sys::obj_pin(program.as_fd(), &pins.program(name)).map_err(Error::bpf(format!("pinning program {name}")))?;
    }
    open_programs(pins)
}

/// Loads the programs with the pinned maps; those that are not pinned are made and pinned.
pub(crate) fn load_programs(pins: &Pins, log: EbpfLog) -> Result<Vec<(&'static str, OwnedFd)>> {
    let mut loader = loader(log);
    for name in abi::ALL_MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    let mut object = loader.load(OBJECT).map_err(|e| Error::Object(Box::new(e)))?;
    let mut all = Vec::new();
    for name in PROGRAMS {
        let program = object.program_mut(name).ok_or(Error::MissingInObject { kind: "program", name })?;
        let fd = load_program(program)
            .and_then(|()| Ok(program.fd()?.as_fd().try_clone_to_owned()?))
            .map_err(|source| Error::Program { program: name, source })?;
        all.push((name, fd));
    }
    Ok(all)
}

/// Loads the programs with maps of their own and lets go of them at once: what the kernel says of each.
pub(crate) fn try_load() -> Result<Vec<(&'static str, Result<ProgramInfo>)>> {
    let mut object = loader(EbpfLog::Off).load(OBJECT).map_err(|e| Error::Object(Box::new(e)))?;
    let mut all = Vec::new();
    for name in PROGRAMS {
        let program = object.program_mut(name).ok_or(Error::MissingInObject { kind: "program", name })?;
        let info = load_program(program)
            .and_then(|()| Ok(sys::program_info(program.fd()?.as_fd())?))
            .map_err(|source| Error::Program { program: name, source });
        all.push((name, info));
    }
    Ok(all)
}

fn load_program(program: &mut Program) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match program {
        Program::SchedClassifier(_) => {
            let program: &mut SchedClassifier = program.try_into()?;
            Ok(uninterrupted(|| program.load())?)
        }
        Program::SkLookup(_) => {
            let program: &mut SkLookup = program.try_into()?;
            Ok(uninterrupted(|| program.load())?)
        }
        Program::CgroupSockAddr(_) => {
            let program: &mut CgroupSockAddr = program.try_into()?;
            Ok(uninterrupted(|| program.load())?)
        }
        other => Err(format!("it is of type {:?}, which this build does not load", other.prog_type()).into()),
    }
}

/// Loads again when a signal came in between: the verifier then stops with `EAGAIN` (kernel/bpf/verifier.c), and aya,
/// unlike libbpf, does not ask again. At most [`LOADS`] times.
fn uninterrupted(
    mut load: impl FnMut() -> std::result::Result<(), ProgramError>,
) -> std::result::Result<(), ProgramError> {
    let mut left = LOADS;
    loop {
        left -= 1;
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if left > 0 && io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

pub(crate) fn open_programs(pins: &Pins) -> Result<Programs> {
    let open = |name: &str| -> Result<Loaded> {
        let fd = sys::obj_get(&pins.program(name)).map_err(Error::bpf(format!("opening the pinned program {name}")))?;
        let info = sys::program_info(fd.as_fd()).map_err(Error::bpf(format!("asking for program {name}")))?;
        Ok(Loaded { fd, id: info.id, instructions: info.verified, map_ids: info.map_ids })
    };
    Ok(Programs {
        ingress: open(abi::WORKLOAD_INGRESS)?,
        egress: open(abi::WORKLOAD_EGRESS)?,
        listener: open(abi::VIP_LISTENER)?,
        hosts: HOOKS.iter().map(|(name, _)| open(name).map(|loaded| (*name, loaded))).collect::<Result<_>>()?,
    })
}

/// Opens what is pinned, if it fits this build: each map with the same layout, and the programs using these maps.
pub(crate) fn adopt(pins: &Pins) -> Result<Programs> {
    let mut ids = BTreeSet::new();
    for (name, wanted) in shapes()? {
        let map = Map::open(&pins.map(name)).map_err(Error::bpf(format!("opening the pinned map {name}")))?;
        let info = map.info;
        let found = Shape { kind: info.kind, key: info.key_size, value: info.value_size, entries: info.max_entries };
        if let Some(detail) = found.differs(wanted) {
            return Err(Error::Layout { name: format!("map {name}"), detail });
        }
        ids.insert(info.id);
    }
    let programs = open_programs(pins)?;
    for (name, loaded) in programs.all() {
        // Constants of the object (.rodata) are maps of the program that are not pinned; of ours it must use some.
        if !loaded.map_ids.iter().any(|id| ids.contains(id)) {
            return Err(Error::Layout {
                name: format!("program {name}"),
                detail: "it uses none of the pinned maps".into(),
            });
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn fails_with(errno: i32, times: usize) -> (usize, bool) {
        let mut loads = 0;
        let done = uninterrupted(|| {
            loads += 1;
            if loads <= times {
                let io_error = io::Error::from_raw_os_error(errno);
                return Err(ProgramError::LoadError {
                    io_error,
                    verifier_log: aya_obj::VerifierLog::new(String::new()),
                });
            }
            Ok(())
        });
        (loads, done.is_ok())
    }

    #[test]
    fn a_load_that_a_signal_stopped_is_repeated_and_no_other() {
        assert_eq!(fails_with(libc::EAGAIN, 2), (3, true));
        assert_eq!(fails_with(libc::EAGAIN, LOADS), (LOADS, false));
        assert_eq!(fails_with(libc::EINVAL, 1), (1, false));
    }
}
