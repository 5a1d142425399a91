//! Changes of header fields and trailers between client and target.

use brattice_router::fields::{self, Message};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, UPGRADE},
};

use crate::{auth::IdentityFields, random::Random};

/// Identifies a request; ours unless the client sent one.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const IDENTITY: HeaderName = HeaderName::from_static("x-amzn-lattice-identity");
const IDENTITY_TAGS: HeaderName = HeaderName::from_static("x-amzn-lattice-identity-tags");
const NETWORK: HeaderName = HeaderName::from_static("x-amzn-lattice-network");
const TARGET: HeaderName = HeaderName::from_static("x-amzn-lattice-target");
const SOURCE_VPC: HeaderName = HeaderName::from_static("x-amzn-source-vpc");
/// Longest request id that is taken from a client, bytes; what is longer is cut (as Lattice does).
const LONGEST_ID: usize = 512;

/// Whether a field does not pass. Names are in lower case already.
fn removed(name: &HeaderName, message: Message) -> bool {
    fields::removed(name.as_str().as_bytes(), message)
}

/// Fields of a peer that do not pass, usually.
const FEW: usize = 8;

/// Removes what belongs to this connection only (RFC 9110, 7.6.1) and what only we may say.
fn clean(headers: &mut HeaderMap, message: Message) {
    if headers.contains_key(CONNECTION) {
        remove_named(headers);
    }
    // They are few, and then need no allocation; where a peer sent many, the search does not start again for each.
    let mut few: [Option<HeaderName>; FEW] = [const { None }; FEW];
    let mut names = headers.keys().filter(|name| removed(name, message));
    for (place, name) in few.iter_mut().zip(&mut names) {
        *place = Some(name.clone());
    }
    let more: Vec<HeaderName> = if few.iter().all(Option::is_some) { names.cloned().collect() } else { Vec::new() };
    for name in few.into_iter().flatten().chain(more) {
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` names, but for those without which the message would be another one.
fn remove_named(headers: &mut HeaderMap) {
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| fields::named(value.as_bytes()));
    let named: Vec<HeaderName> = options.filter_map(|option| HeaderName::from_bytes(option).ok()).collect();
    for name in named {
        headers.remove(name);
    }
}

/// What is added to a request.
pub(crate) struct AddedFields {
    /// The target speaks HTTP/2.
    pub(crate) to_http2: bool,
    /// The fields about caller and route for the target.
    pub(crate) identity: IdentityFields,
}

/// The request's id: the client's, or a new one.
pub(crate) fn request_id(headers: &HeaderMap, random: &mut Random) -> HeaderValue {
    if let Some(id) = headers.get(REQUEST_ID) {
        let bytes = id.as_bytes();
        if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic) {
            if bytes.len() <= LONGEST_ID {
                return id.clone();
            }
            if let Ok(cut) = HeaderValue::from_bytes(&bytes[..LONGEST_ID]) {
                return cut;
            }
        }
    }
    let mut room = uuid::Uuid::encode_buffer();
    let id = random.uuid().hyphenated().encode_lower(&mut room);
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// Takes from a client's header fields what does not pass: first of all, so that no rule and no policy is asked about a
/// field that the target will not see.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| fields::list(value.as_bytes()).any(|coding| coding.eq_ignore_ascii_case(b"trailers")));
    // guard: fields-of-brattice
    clean(headers, Message::Request);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Adds the fields about the route, and what belongs to the connection to it, once it is known which target.
pub(crate) fn request(headers: &mut HeaderMap, added: &AddedFields) {
    if !added.to_http2 {
        // The recipient must know which fields are for it (RFC 9110, 7.8 and 10.1.4).
        let named = match (headers.contains_key(TE), headers.contains_key(UPGRADE)) {
            (true, true) => Some("te, upgrade"),
            (true, false) => Some("te"),
            (false, true) => Some("upgrade"),
            (false, false) => None,
        };
        if let Some(named) = named {
            headers.insert(CONNECTION, HeaderValue::from_static(named));
        }
    }
    let identity = &added.identity;
    let fields = [
        (IDENTITY, &identity.identity),
        (IDENTITY_TAGS, &identity.tags),
        (NETWORK, &identity.network),
        (TARGET, &identity.target),
        (SOURCE_VPC, &identity.source_vpc),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
}

/// Makes a target's header fields those for the client.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    trim(headers);
    clean(headers, Message::Response);
}

/// Trailers lose the same as header fields, and everything that frames or routes a message or that we set.
fn clean_trailers(trailers: &mut HeaderMap, message: Message) {
    // guard: trailers-of-brattice
    clean(trailers, message);
    for name in [HOST, CONTENT_LENGTH, TRAILER, EXPECT, REQUEST_ID] {
        trailers.remove(name);
    }
    for name in [FORWARDED_FOR, FORWARDED_PORT, FORWARDED_PROTO] {
        trailers.remove(name);
    }
}

/// See [`clean_trailers`].
pub(crate) fn clean_request_trailers(trailers: &mut HeaderMap) {
    clean_trailers(trailers, Message::Request);
}

/// See [`clean_trailers`].
pub(crate) fn clean_response_trailers(trailers: &mut HeaderMap) {
    trim(trailers);
    clean_trailers(trailers, Message::Response);
}

/// Takes blanks from the ends of values, which HTTP/2 targets send, although they may not, and which must not be passed on
/// (RFC 9113, 8.2.1).
fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let trimmed = fields::trim(value.as_bytes());
        if trimmed.len() < value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
}

/// Bytes of a header section as HTTP/2 counts them (RFC 9113, 6.5.2), the target included.
pub(crate) fn size(headers: &HeaderMap, uri: &http::Uri) -> usize {
    const OVERHEAD: usize = 32;
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum::<usize>() + target
}
