//! Which interfaces are attached, for whom, and with which addresses. Pure: the inventory of interfaces and what the
//! documents wish go in, decisions come out.
//!
//! What a `Workload` document says is authoritative. What is merely discovered inside a workload's namespace counts only
//! inside the VPC's CIDRs, while no other workload of the VPC holds it: the later claim is refused, never the earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use brattice_loader::interfaces::Interface;
use brattice_loader::interfaces::places::Places;
use brattice_model::Evidence;
use ipnet::IpNet;

pub use self::hosts::{HostProcesses, aliases};
pub use self::rests::Rests;
pub use self::wishes::{HostWish, VpcWish, Wishes, WorkloadWish, paired};
use crate::aliases::{Claim, Identity};

mod hosts;
mod rests;
mod wishes;

/// Why an interface or an address is refused; stable words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The host's way out.
    DefaultRoute,
    /// A bridge itself; its ports may be attached.
    Bridge,
    /// One of Brattice's own devices.
    Own,
    /// Not one end of a veth pair, nor a tap.
    NotVeth,
    /// Its packets pass the host by, from the lower device.
    Macvlan,
    /// Likewise.
    Ipvlan,
    /// Its programs are its owner's, and no veth.
    Netkit,
    /// A tunnel without link addresses.
    Tun,
    /// A tap, and no document that says the guest's link address.
    NoMacAddress,
    /// The workload's side cannot be seen.
    PeerUnknown,
    /// Selected by more than one VPC.
    ClaimedByTwoVpcs,
    /// A document that means several interfaces, or several documents that mean one.
    AmbiguousWorkload,
    /// A document that means no interface that exists.
    NoInterface,
    /// A document that means no cgroup that exists.
    NoCgroup,
    /// What the path names is no network namespace.
    NotANamespace,
    /// The namespace is the node's own.
    HostNamespace,
    /// The process that the path names has ended.
    ProcessGone,
    /// Another CNI's programs are on it, and no document allows to be beside them.
    CarriesCni,
    /// No address known, of either family.
    NoAddress,
    /// An IPv6 address on a node that does no IPv6 now.
    NoIpv6,
    /// An address outside the VPC's CIDRs.
    OutsideVpc,
    /// Another workload of the VPC holds the address.
    AddressConflict,
    /// No alias is left.
    AliasPoolExhausted,
    /// The interface has as many aliases as one may have.
    AliasLimit,
    /// The kernel refused the attachment, or an entry that it needs.
    AttachFailed,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A refusal, of one address or of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Absent: the whole interface.
    pub address: Option<IpAddr>,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub text: String,
}

/// An interface that some document selects (or a document that selects none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The workload's name.
    pub name: String,
    /// Whether that is the name of a `Workload` document, not of the interface.
    pub documented: bool,
    /// Qualified name of the VPC, or of those that quarrel.
    pub vpc: String,
    /// Host-side interface.
    pub interface: String,
    /// Its index; 0 where there is none.
    pub ifindex: u32,
    /// Named network namespace of the workload's side.
    pub namespace: Option<String>,
    /// What makes it this workload; absent: refused.
    pub identity: Option<Identity>,
    /// Processes of the host, in place of an interface.
    pub host: Option<HostProcesses>,
    /// Addresses it gets aliases for; empty: refused.
    pub addresses: Vec<IpAddr>,
    /// What is refused.
    pub refused: Vec<Refusal>,
    /// Port 53 to any address is taken.
    pub intercept_dns: bool,
    /// Largest packet that reaches the workload, bytes.
    pub mtu: u32,
    /// Link address that packets for it are sent to.
    pub mac: [u8; 6],
}

impl Decision {
    /// Whether the interface is to be attached.
    pub fn attached(&self) -> bool {
        self.identity.is_some() && !self.addresses.is_empty()
    }

    /// Whether the kernel refused to attach it. (Not: one of the addresses of a workload that is attached.)
    pub fn attach_failed(&self) -> bool {
        self.refused.iter().any(|refusal| refusal.code == Code::AttachFailed && refusal.address.is_none())
    }

    /// The evidence of the workload's identity: its interface always, its namespace where that has a name; or cgroup
    /// and user.
    pub fn evidence(&self) -> Vec<Evidence> {
        if let Some(host) = &self.host {
            return host.evidence();
        }
        let namespace = self.namespace.is_some().then_some(Evidence::Namespace);
        std::iter::once(Evidence::Interface).chain(namespace).collect()
    }

    /// The aliases that this attachment claims, and for which address each.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        let identity = self.identity;
        self.addresses
            .iter()
            .filter_map(move |address| Some(Claim { identity: identity?, vpc: self.vpc.clone(), address: *address }))
    }

    /// The refusals in one sentence each.
    pub fn reason(&self) -> Option<String> {
        let reasons: Vec<String> = self.refused.iter().map(|r| format!("{}: {}", r.code, r.text)).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn refuse(&mut self, address: Option<IpAddr>, code: Code, text: impl Into<String>) {
        self.refused.push(Refusal { address, code, text: text.into() });
    }
}

/// Names of Brattice's own devices.
pub fn is_own(name: &str) -> bool {
    matches!(name, "brattice0" | "brattice1")
}

/// The identity behind an interface, if it can be a workload's.
pub fn identity_of(interface: &Interface) -> Option<Identity> {
    if unfit(interface).is_some() {
        return None;
    }
    Some(identity(interface))
}

/// Decides. `holders`: workloads that have an alias for an address of a VPC now. `rests`: addresses whose holder went away.
pub fn decide(
    interfaces: &[Interface],
    wishes: &Wishes,
    holders: &BTreeMap<(String, IpAddr), Identity>,
    rests: &Rests,
) -> Vec<Decision> {
    let (mut decisions, documents) = select(interfaces, wishes);
    decisions.extend(hosts::decide(&wishes.workloads, &wishes.places));
    give_addresses(&mut decisions, &documents, interfaces, wishes, holders, rests);
    unique_names(&mut decisions, &documents);
    decisions.sort_by(|a, b| (&a.vpc, &a.name, a.ifindex).cmp(&(&b.vpc, &b.name, b.ifindex)));
    decisions
}

/// Interface index → the document that names it.
type Documents<'a> = BTreeMap<u32, &'a WorkloadWish>;

fn select<'a>(interfaces: &[Interface], wishes: &'a Wishes) -> (Vec<Decision>, Documents<'a>) {
    let mut decisions = Vec::new();
    let mut documents: BTreeMap<u32, Vec<&WorkloadWish>> = BTreeMap::new();
    for wish in wishes.workloads.iter().filter(|wish| wish.host.is_none()) {
        let meant: Vec<&Interface> = interfaces.iter().filter(|i| wish.means(i, &wishes.places)).collect();
        match meant[..] {
            [only] => documents.entry(only.ifindex).or_default().push(wish),
            [] => {
                let mut decision = Decision::of_document(wish);
                let (code, text) = wish.nowhere(&wishes.places);
                decision.refuse(None, code, text);
                decisions.push(decision);
            }
            _ => {
                let names: Vec<&str> = meant.iter().map(|interface| interface.name.as_str()).collect();
                let mut decision = Decision::of_document(wish);
                let text = format!("{} means {}; add `interface` to say which", wish.place(), names.join(", "));
                decision.refuse(None, Code::AmbiguousWorkload, text);
                decisions.push(decision);
            }
        }
    }
    let mut named = Documents::new();
    for interface in interfaces {
        let documents = documents.get(&interface.ifindex).map(Vec::as_slice).unwrap_or_default();
        let mut vpcs: BTreeSet<&str> = wishes
            .vpcs
            .iter()
            .filter(|vpc| vpc.selects(interface, &wishes.places))
            .map(|vpc| vpc.name.as_str())
            .collect();
        vpcs.extend(documents.iter().map(|wish| wish.vpc.as_str()));
        if vpcs.is_empty() {
            continue;
        }
        let names: Vec<&str> = vpcs.iter().copied().collect();
        let mut decision = Decision {
            name: documents.first().map_or(&interface.name, |wish| &wish.name).clone(),
            documented: !documents.is_empty(),
            vpc: names.join(", "),
            interface: interface.name.clone(),
            ifindex: interface.ifindex,
            namespace: namespace(interface, documents, &wishes.places),
            identity: None,
            host: None,
            addresses: Vec::new(),
            refused: Vec::new(),
            intercept_dns: wishes.vpcs.iter().any(|vpc| vpc.intercept_dns && vpcs.contains(vpc.name.as_str())),
            mtu: mtu(interface),
            mac: documents
                .first()
                .and_then(|wish| wish.mac)
                .or_else(|| interface.peer.as_ref().map(|peer| peer.mac))
                .unwrap_or_default(),
        };
        let cni = carries_cni(interface, wishes, documents);
        match unfit(interface).or(cni.map(|text| (Code::CarriesCni, text))) {
            Some((code, text)) => decision.refuse(None, code, text),
            None if vpcs.len() > 1 => {
                decision.refuse(None, Code::ClaimedByTwoVpcs, format!("selected by the VPCs {}", names.join(" and ")));
            }
            None if documents.len() > 1 => {
                let all: Vec<&str> = documents.iter().map(|wish| wish.name.as_str()).collect();
                decision.refuse(None, Code::AmbiguousWorkload, format!("named by the Workloads {}", all.join(" and ")));
            }
            None if interface.kind == "tap" && decision.mac == [0; 6] => {
                let text = "Brattice cannot discover the link address of the guest behind a tap (the guest could forge it): name it as `macAddress` of a Workload document, with its `addresses`";
                decision.refuse(None, Code::NoMacAddress, text);
            }
            None => {
                decision.identity = Some(identity(interface));
                if let [document] = documents {
                    named.insert(interface.ifindex, document);
                }
            }
        }
        decisions.push(decision);
    }
    (decisions, named)
}

/// Why an interface is left to the CNI whose data path it is part of; `None`: it is no CNI's, or a document allows it.
///
/// Ours would run first and redirect service traffic past that CNI's programs, and so past its policies.
fn carries_cni(interface: &Interface, wishes: &Wishes, documents: &[&WorkloadWish]) -> Option<String> {
    let (cni, program) = interface.cni()?;
    let allowed = documents.iter().any(|wish| wish.allow_beside_cni)
        || wishes
            .vpcs
            .iter()
            .any(|vpc| vpc.selecting(interface, &wishes.places).any(|selector| selector.allow_beside_cni));
    (!allowed).then(|| {
        format!(
            "it carries {cni}'s program {} ({}), whose policies service traffic would bypass; if that is meant, say \
             `allowBesideCni: true` in the Vpc's attachment or in the Workload document",
            program.name, program.hook
        )
    })
}

/// Why an interface can never be a workload's, whichever document selects it.
fn unfit(interface: &Interface) -> Option<(Code, String)> {
    if interface.ours || is_own(&interface.name) {
        return Some((Code::Own, "it is Brattice's own device".to_owned()));
    }
    if interface.has_default_route {
        return Some((Code::DefaultRoute, "the host's default route leads through it".to_owned()));
    }
    if interface.kind == "bridge" {
        return Some((Code::Bridge, "it is a bridge; select its ports instead".to_owned()));
    }
    let no_veth = match interface.kind.as_str() {
        "veth" => None,
        // A guest is behind it, which cannot be asked.
        "tap" => return None,
        "macvlan" | "macvtap" => Some((Code::Macvlan, PASSES_BY)),
        "ipvlan" | "ipvtap" => Some((Code::Ipvlan, PASSES_BY)),
        "netkit" => Some((Code::Netkit, NETKIT)),
        "tun" => Some((Code::Tun, "its packets have no link addresses; a tap has")),
        _ => None,
    };
    if let Some((code, text)) = no_veth {
        return Some((code, format!("it is {}: {text}", interface.kind)));
    }
    if interface.kind != "veth" {
        let kind = if interface.kind.is_empty() { "a device of its own" } else { &interface.kind };
        return Some((Code::NotVeth, format!("it is {kind}, neither one end of a veth pair nor a tap")));
    }
    match &interface.peer {
        None => Some((
            Code::PeerUnknown,
            "its other end cannot be seen; is its network namespace named in /run/netns?".to_owned(),
        )),
        Some(peer) if peer.mac == [0; 6] => Some((Code::PeerUnknown, "its other end has no link address".to_owned())),
        Some(_) => None,
    }
}

/// A veth pair drops what is larger than the MTU of the end that receives it.
fn mtu(interface: &Interface) -> u32 {
    let inside = interface.peer.as_ref().map(|peer| peer.mtu).filter(|mtu| *mtu > 0);
    inside.map_or(interface.mtu, |inside| inside.min(interface.mtu))
}

/// A tap has no namespace behind it; its own link address is made anew with it.
fn identity(interface: &Interface) -> Identity {
    let (namespace, mac) =
        interface.peer.as_ref().map_or((0, interface.mac), |peer| (peer.namespace_inode.unwrap_or(0), peer.mac));
    Identity { ifindex: interface.ifindex, namespace, mac }
}

/// The name of the namespace behind an interface, or how a document finds it.
fn namespace(interface: &Interface, documents: &[&WorkloadWish], places: &Places) -> Option<String> {
    let peer = interface.peer.as_ref()?;
    peer.namespace.clone().or_else(|| documents.first()?.path.clone()).or_else(|| {
        let cgroups = places.cgroups.get(&peer.namespace_inode?)?;
        Some(format!("cgroup {}", cgroups.first()?))
    })
}

const PASSES_BY: &str =
    "its packets leave by the lower device and bypass the host, so Brattice cannot attest who sent them; use a veth";
const NETKIT: &str = "its programs belong to who made it, and it hands packets over without a link address; use a veth";

/// How strong a claim to an address is; the smallest wins.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    discovered: bool,
    newcomer: bool,
    ifindex: u32,
}

fn give_addresses(
    decisions: &mut [Decision],
    documents: &Documents<'_>,
    interfaces: &[Interface],
    wishes: &Wishes,
    holders: &BTreeMap<(String, IpAddr), Identity>,
    rests: &Rests,
) {
    // (VPC, address) → claims, by rank.
    let mut claims: BTreeMap<(String, IpAddr), Vec<(Rank, usize)>> = BTreeMap::new();
    for (index, decision) in decisions.iter_mut().enumerate() {
        let Some(identity) = decision.identity else { continue };
        let listed = match &decision.host {
            Some(host) => Some(&host.addresses),
            None => documents.get(&decision.ifindex).map(|wish| &wish.addresses),
        };
        let documented = listed.filter(|list| !list.is_empty()).cloned();
        let discovered = || {
            let interface = interfaces.iter().find(|interface| interface.ifindex == decision.ifindex)?;
            Some(interface.peer.as_ref()?.addresses.clone())
        };
        let is_documented = documented.is_some();
        let addresses = documented.or_else(discovered).unwrap_or_default();
        let cidrs =
            wishes.vpcs.iter().find(|vpc| vpc.name == decision.vpc).map(|vpc| vpc.cidrs.as_slice()).unwrap_or_default();
        let mut any = false;
        for address in addresses.into_iter().collect::<BTreeSet<_>>() {
            // Discovered IPv6 addresses are not reported in a VPC of IPv4 alone: many interfaces have such addresses,
            // unasked.
            let meant = |cidr: &IpNet| cidr.addr().is_ipv4() == address.is_ipv4();
            if address.is_ipv6() && !is_documented && !cidrs.iter().any(meant) {
                continue;
            }
            any = true;
            if address.is_ipv6() && !wishes.ipv6 {
                let text = format!("{address} cannot be served: this node does no IPv6 (brattice status says why)");
                decision.refuse(Some(address), Code::NoIpv6, text);
                continue;
            }
            if !cidrs.iter().any(|cidr| cidr.contains(&address)) {
                let list: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
                let text = format!("{address} is not inside {} of VPC {}", list.join(", "), decision.vpc);
                decision.refuse(Some(address), Code::OutsideVpc, text);
                continue;
            }
            let key = (decision.vpc.clone(), address);
            // What a document says is no claim of the workload's own.
            if !is_documented && let Some(text) = rests.bars(&key, decision) {
                decision.refuse(Some(address), Code::AddressConflict, text);
                continue;
            }
            let newcomer = holders.get(&key) != Some(&identity);
            let rank = Rank { discovered: !is_documented, newcomer, ifindex: decision.ifindex };
            claims.entry(key).or_default().push((rank, index));
        }
        if !any {
            let text = if interfaces.iter().any(|i| i.ifindex == decision.ifindex && i.kind == "tap") {
                "Brattice cannot discover the addresses of the guest behind a tap; name them as `addresses` of a Workload document"
            } else {
                "no address was discovered in its namespace; configure one, or name it in a Workload document"
            };
            decision.refuse(None, Code::NoAddress, text);
        }
    }
    for ((vpc, address), mut claimants) in claims {
        claimants.sort();
        let Some((_, first)) = claimants.first() else { continue };
        let holder = decisions[*first].interface.clone();
        for (place, (_, index)) in claimants.iter().enumerate() {
            let decision = &mut decisions[*index];
            // guard: address-conflict
            if place == 0 {
                decision.addresses.push(address);
            } else {
                let text = format!("{address} of VPC {vpc} belongs to {holder} already");
                decision.refuse(Some(address), Code::AddressConflict, text);
            }
        }
    }
}

/// A name of an interface gives way to the name of a document in the same VPC.
fn unique_names(decisions: &mut [Decision], documents: &Documents<'_>) {
    let taken: BTreeSet<(String, String)> = decisions
        .iter()
        .filter(|decision| decision.ifindex == 0 || documents.contains_key(&decision.ifindex))
        .map(|decision| (decision.vpc.clone(), decision.name.clone()))
        .collect();
    for decision in decisions.iter_mut() {
        if decision.ifindex != 0
            && !documents.contains_key(&decision.ifindex)
            && taken.contains(&(decision.vpc.clone(), decision.name.clone()))
        {
            decision.name = format!("{}@{}", decision.name, decision.ifindex);
        }
    }
}

impl Decision {
    fn of_document(wish: &WorkloadWish) -> Self {
        Self {
            name: wish.name.clone(),
            documented: true,
            vpc: wish.vpc.clone(),
            interface: wish.interface.clone().unwrap_or_default(),
            ifindex: 0,
            namespace: wish.namespace.clone().or_else(|| wish.path.clone()),
            identity: None,
            host: None,
            addresses: Vec::new(),
            refused: Vec::new(),
            intercept_dns: false,
            mtu: 0,
            mac: [0; 6],
        }
    }
}

#[cfg(test)]
mod tests;
