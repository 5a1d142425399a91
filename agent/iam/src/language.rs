//! The words of the language: versions, effects, and what a policy may belong to.

/// What a policy belongs to: it decides what the policy may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A role: an identity policy, without principals.
    Role,
    /// A service network.
    ServiceNetwork,
    /// A service, by what its listeners speak.
    Service {
        /// Some listener reads HTTP.
        http: bool,
        /// Some listener relays connections as TCP.
        tcp: bool,
    },
    /// A resource configuration: connections only.
    ResourceConfiguration,
}

impl Attachment {
    /// Whether HTTP requests come.
    pub(crate) const fn http(self) -> bool {
        !matches!(self, Self::Service { http: false, .. } | Self::ResourceConfiguration)
    }

    /// Whether connections come whose content is not read.
    pub(crate) const fn tcp(self) -> bool {
        !matches!(self, Self::Service { tcp: false, .. })
    }
}

/// The version of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `2008-10-17`, also where none is given: no policy variables.
    V2008,
    /// `2012-10-17`.
    V2012,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Lets the request pass.
    Allow,
    /// Refuses it, whatever allows it.
    Deny,
}
