//! What the documents call what requests met: put together once per revision, and shared by all requests that met the same.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use brattice_router::hash::FastMap;

use super::{json, names::Names, outlets::Outlets, record::Met};
use crate::metrics::series::{Labels, NONE, Series};

/// Series and names that a worker finds without asking for them.
const KEPT: usize = 8_192;

const NO_CALLER: &[u8] = br#""sourceVpcArn":"-","sourceVpcId":"-","sourceWorkload":"-","attestedPrincipal":"-","callerPrincipal":"-","callerPrincipalTags":"-","#;
const NO_LISTENER: &[u8] =
    br#""serviceArn":"-","listenerId":"-","listenerType":"-","listenerName":"-","serviceName":"-","#;
const NO_NETWORK: &[u8] = br#""serviceNetworkArn":"-","#;
const NO_GROUP: &[u8] = br#""targetGroupArn":"-","destinationVpcId":"-","#;

/// Who called what, within one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(super) alias: IpAddr,
    pub(super) generation: u32,
    pub(super) port: u16,
    /// Number of the service.
    pub(super) service: Option<u32>,
    /// Index of the target group.
    pub(super) group: Option<u32>,
    /// Index of the service network.
    pub(super) network: Option<u32>,
}

/// Its names and series.
#[derive(Debug)]
pub(crate) struct Named {
    pub(super) revision: u64,
    pub(super) place: Place,
    pub(super) series: Arc<Series>,
    /// The caller's real address.
    pub(super) source: Option<IpAddr>,
    pub(super) caller: Box<str>,
    pub(super) caller_vpc: Arc<str>,
    pub(super) service: Arc<str>,
    pub(super) listener: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) target_vpc: Arc<str>,
    /// Fields of the line that come from documents.
    pub(super) json: Box<[u8]>,
}

impl Place {
    /// What a request of a caller met at a port.
    pub(super) fn of(alias: IpAddr, generation: u32, port: u16, met: &Met) -> Self {
        Self { alias, generation, port, service: met.service, group: met.group, network: met.network }
    }
}

impl Named {
    fn of(names: &Names, place: Place, series: impl FnOnce(Labels) -> Arc<Series>) -> Self {
        let none = || Arc::from("");
        let mut json = Vec::new();
        let known = names.caller(place.alias);
        let caller = known.filter(|caller| caller.generation == place.generation);
        json.extend_from_slice(caller.map_or(NO_CALLER, |caller| &caller.json));
        let vpc = caller.and_then(|caller| names.vpc(caller.vpc));
        let service = place.service.and_then(|number| names.service(number));
        let common = || names.common(caller?.vpc, service?);
        let network = place.network.or_else(common).and_then(|index| names.network(index));
        let enforced =
            service.is_some_and(|service| service.enforced) || network.is_some_and(|network| network.enforced);
        json.extend_from_slice(b"\"resolvedUser\":");
        json.extend_from_slice(caller.filter(|_| enforced).map_or(json::ABSENT.as_bytes(), |caller| &caller.resolved));
        json.push(b',');
        let listener = service.and_then(|service| service.listener(place.port));
        json.extend_from_slice(listener.map_or(NO_LISTENER, |listener| &listener.json));
        json.extend_from_slice(network.map_or(NO_NETWORK, |network| &network.json));
        let group = place.group.and_then(|index| names.group(index));
        json.extend_from_slice(group.map_or(NO_GROUP, |group| &group.json));
        let target_vpc = group.and_then(|group| group.vpc).and_then(|vpc| names.vpc(vpc));
        let label = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::from(NONE), Arc::clone);
        let series = series(Labels {
            service: label(service.map(|service| &service.name)),
            listener: label(listener.map(|listener| &listener.name)),
            target_group: label(group.map(|group| &group.name)),
            vpc: label(known.and_then(|caller| names.vpc(caller.vpc)).map(|vpc| &vpc.name)),
        });
        // A listener names itself together with its service.
        let both = service.zip(listener);
        Self {
            revision: names.revision,
            place,
            series,
            source: caller.map(|caller| caller.address),
            caller: caller.map_or_else(Box::default, |caller| caller.name.clone()),
            caller_vpc: vpc.map_or_else(none, |vpc| Arc::clone(&vpc.name)),
            service: both.map_or_else(none, |(service, _)| Arc::clone(&service.name)),
            listener: both.map_or_else(none, |(_, listener)| Arc::clone(&listener.name)),
            group: group.map_or_else(none, |group| Arc::clone(&group.name)),
            target_vpc: target_vpc.map_or_else(none, |vpc| Arc::clone(&vpc.name)),
            json: json.into(),
        }
    }
}

/// What a worker has put together.
#[derive(Debug, Default)]
pub(super) struct Places {
    revision: u64,
    named: FastMap<Place, Rc<Named>>,
    series: FastMap<Labels, Arc<Series>>,
}

impl Places {
    /// The names of a place.
    pub(super) fn named(&mut self, names: &Names, place: Place, outlets: &Outlets) -> Rc<Named> {
        self.renew(names);
        if let Some(named) = self.named.get(&place) {
            return Rc::clone(named);
        }
        if self.named.len() >= KEPT {
            self.named.clear();
        }
        if self.series.len() >= KEPT {
            self.series.clear();
        }
        let series = &mut self.series;
        let named = Rc::new(Named::of(names, place, |labels| {
            if let Some(known) = series.get(&labels) {
                return Arc::clone(known);
            }
            let new = outlets.series.series(&labels);
            series.insert(labels, Arc::clone(&new));
            new
        }));
        self.named.insert(place, Rc::clone(&named));
        named
    }

    /// A new snapshot is in force: series of services that are gone are let go of.
    pub(super) fn applied(&mut self, names: &Names) {
        self.named.clear();
        self.revision = names.revision;
        let services: std::collections::HashSet<&str> = names.service_names().collect();
        self.series.retain(|labels, _| &*labels.service == NONE || services.contains(&*labels.service));
    }

    fn renew(&mut self, names: &Names) {
        if self.revision != names.revision {
            self.named.clear();
            self.revision = names.revision;
        }
    }
}
