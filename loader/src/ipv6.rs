//! Does this host do IPv6? It may be built or booted without, and be turned off and on while it runs.

use std::fs;

use crate::device;

/// What the host does of IPv6, in the calling thread's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// All that service traffic needs.
    On,
    /// Turned off on `lo` or `brattice0` by a sysctl, which may be turned on again at any time.
    Off,
    /// The kernel has none (`ipv6.disable=1`, or built without), until the next boot.
    Absent,
}

impl Ipv6 {
    /// For people: what is found, and how it is turned on.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => {
                "off on this host, so services are called over IPv4 only (sysctl -w net.ipv6.conf.all.disable_ipv6=0 turns it on)"
            }
            Self::Absent => "not in this kernel, so services are called over IPv4 only (it is built or booted without)",
        }
    }
}

/// Asks the host. What is not there yet (`brattice0`) will be as new interfaces are.
#[must_use]
pub fn ipv6() -> Ipv6 {
    judge(&|interface| {
        fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"))
            .ok()
            .map(|value| value.trim() != "0")
    })
}

fn judge(disabled: &dyn Fn(&str) -> Option<bool>) -> Ipv6 {
    let Some(lo) = disabled("lo") else { return Ipv6::Absent };
    let device = disabled(device::DEVICE).or_else(|| disabled("default")).unwrap_or(false);
    if lo || device { Ipv6::Off } else { Ipv6::On }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_and_brattice0_decide_and_defaults_stand_in() {
        let host = |settings: &'static [(&str, bool)]| {
            judge(&|name| settings.iter().find(|(own, _)| *own == name).map(|(_, disabled)| *disabled))
        };
        assert_eq!(host(&[]), Ipv6::Absent);
        assert_eq!(host(&[("lo", false), ("default", false)]), Ipv6::On);
        assert_eq!(host(&[("lo", true), ("default", true)]), Ipv6::Off);
        assert_eq!(host(&[("lo", false), ("default", true)]), Ipv6::Off);
        assert_eq!(host(&[("lo", false), ("default", true), ("brattice0", false)]), Ipv6::On);
        assert_eq!(host(&[("lo", false), ("default", false), ("brattice0", true)]), Ipv6::Off);
    }
}
