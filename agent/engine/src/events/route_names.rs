//! The names of a request's caller and route in the documents, put together once per revision, and shared by all
//! requests of the same route.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use brattice_router::hash::FastMap;
use brattice_wire::{
    index::{NetworkIndex, TargetGroupIndex},
    snapshot::{AliasGeneration, ServiceNumber},
};

use super::{
    json,
    metrics::series::{Labels, NONE, Registry, Series},
    names::Names,
};

/// Series and names that a worker finds without asking for them.
const KEPT: usize = 8_192;

const NO_CALLER: &[u8] = br#""sourceVpcArn":"-","sourceVpcId":"-","sourceWorkload":"-","attestedPrincipal":"-","callerPrincipal":"-","callerPrincipalTags":"-","#;
const NO_LISTENER: &[u8] =
    br#""serviceArn":"-","listenerId":"-","listenerType":"-","listenerName":"-","serviceName":"-","#;
const NO_NETWORK: &[u8] = br#""serviceNetworkArn":"-","#;
const NO_GROUP: &[u8] = br#""targetGroupArn":"-","destinationVpcId":"-","#;

/// Caller and service, within one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteKey {
    pub(super) alias: IpAddr,
    pub(super) generation: AliasGeneration,
    pub(super) port: u16,
    pub(super) service: Option<ServiceNumber>,
    pub(super) group: Option<TargetGroupIndex>,
    pub(super) network: Option<NetworkIndex>,
}

/// Its names and series.
#[derive(Debug)]
pub(crate) struct RouteNames {
    pub(super) revision: u64,
    pub(super) key: RouteKey,
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

impl RouteNames {
    fn of(names: &Names, key: RouteKey, series: impl FnOnce(Labels) -> Arc<Series>) -> Self {
        let none = || Arc::from("");
        let mut json = Vec::new();
        let known = names.caller(key.alias);
        let caller = known.filter(|caller| caller.generation == key.generation);
        json.extend_from_slice(caller.map_or(NO_CALLER, |caller| &caller.json));
        let vpc = caller.and_then(|caller| names.vpc(caller.vpc));
        let service = key.service.and_then(|number| names.service(number));
        let common = || names.common(caller?.vpc, service?);
        let network = key.network.or_else(common).and_then(|index| names.network(index));
        let enforced =
            service.is_some_and(|service| service.enforced) || network.is_some_and(|network| network.enforced);
        json.extend_from_slice(b"\"resolvedUser\":");
        json.extend_from_slice(caller.filter(|_| enforced).map_or(json::ABSENT.as_bytes(), |caller| &caller.resolved));
        json.push(b',');
        let listener = service.and_then(|service| service.listener(key.port));
        json.extend_from_slice(listener.map_or(NO_LISTENER, |listener| &listener.json));
        json.extend_from_slice(network.map_or(NO_NETWORK, |network| &network.json));
        let group = key.group.and_then(|index| names.group(index));
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
            key,
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

/// The names that a worker has put together, and the series that it has used.
#[derive(Debug, Default)]
pub(super) struct RouteNamesCache {
    revision: u64,
    names: FastMap<RouteKey, Rc<RouteNames>>,
    series: FastMap<Labels, Arc<Series>>,
}

impl RouteNamesCache {
    /// The names of a route.
    pub(super) fn get(&mut self, names: &Names, key: RouteKey, registry: &Registry) -> Rc<RouteNames> {
        self.renew(names);
        if let Some(known) = self.names.get(&key) {
            return Rc::clone(known);
        }
        if self.names.len() >= KEPT {
            self.names.clear();
        }
        if self.series.len() >= KEPT {
            self.series.clear();
        }
        let series = &mut self.series;
        let route = Rc::new(RouteNames::of(names, key, |labels| {
            if let Some(known) = series.get(&labels) {
                return Arc::clone(known);
            }
            let new = registry.series(&labels);
            series.insert(labels, Arc::clone(&new));
            new
        }));
        self.names.insert(key, Rc::clone(&route));
        route
    }

    /// A new snapshot is in force: series of services that are gone are freed.
    pub(super) fn applied(&mut self, names: &Names) {
        self.names.clear();
        self.revision = names.revision;
        let services: std::collections::HashSet<&str> = names.service_names().collect();
        self.series.retain(|labels, _| &*labels.service == NONE || services.contains(&*labels.service));
    }

    fn renew(&mut self, names: &Names) {
        if self.revision != names.revision {
            self.names.clear();
            self.revision = names.revision;
        }
    }
}
