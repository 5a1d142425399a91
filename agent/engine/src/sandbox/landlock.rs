//! Landlock: no file at all, no TCP port of one's own, no signal and no abstract socket outside (landlock(7)).
//!
//! Connecting stays allowed: that is the engine's work, and `workload_egress` decides where to. Unix sockets of the host are
//! out of reach by the system call filter: there is no socket to connect.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};

use super::SandboxError;

/// The newest ABI whose every file access right is refused.
const NEWEST: ABI = ABI::V8;
/// First ABI with [`AccessNet::BindTcp`], and its kernel.
const WITH_NET: i32 = 4;
/// First ABI with [`Scope`].
const WITH_SCOPE: i32 = 6;

/// Restricts the process; returns what this kernel's Landlock lacks.
pub(super) fn restrict() -> Result<Vec<String>, SandboxError> {
    let failed = |what: &'static str| {
        move |error: landlock::RulesetError| SandboxError::Refused { what, error: std::io::Error::other(error) }
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .map_err(failed("name the file accesses that Landlock refuses"))?
        .handle_access(AccessNet::BindTcp)
        .map_err(failed("name the network accesses that Landlock refuses"))?
        .scope(BitFlags::from(Scope::AbstractUnixSocket) | Scope::Signal)
        .map_err(failed("scope signals and abstract sockets"))?
        .create()
        .map_err(failed("create the Landlock ruleset"))?
        // Port 0 is not a port: it is how a source address is chosen before connecting. listen(2) is not in the system
        // call filter, so no port that the kernel picks can become a listener.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))
        .map_err(failed("allow binding a source address"))?
        .restrict_self()
        .map_err(failed("enter the Landlock domain"))?;
    Ok(match status.landlock {
        LandlockStatus::NotImplemented => vec!["landlock: not built into this kernel".into()],
        LandlockStatus::NotEnabled => vec!["landlock: built in, but not enabled (kernel parameter lsm=)".into()],
        LandlockStatus::Available { effective_abi, .. } => lacking(effective_abi as i32),
    })
}

fn lacking(abi: i32) -> Vec<String> {
    let mut missing = Vec::new();
    if abi < WITH_NET {
        missing.push(format!("landlock: ABI {abi} cannot refuse TCP ports (needs {WITH_NET}, Linux 6.7)"));
    }
    if abi < WITH_SCOPE {
        missing.push(format!("landlock: ABI {abi} cannot scope signals (needs {WITH_SCOPE}, Linux 6.12)"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_are_named() {
        assert_eq!(lacking(3).len(), 2);
        assert_eq!(lacking(4).len(), 1);
        assert!(lacking(6).is_empty());
    }
}
