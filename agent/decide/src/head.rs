//! What rules and policies may ask of a request.

use std::borrow::Cow;

use brattice_iam::Lookup;
use brattice_router::RequestHead;
use brattice_wire::index::VpcIndex;

/// The head of a request in the form in which its target gets it. Implemented over whatever holds the bytes: a header map, a
/// buffer of an HTTP/1 connection, a copy of an earlier request.
pub trait Head {
    /// As sent.
    fn method(&self) -> &str;
    /// Normalised (`brattice_router::path`), without the query.
    fn path(&self) -> &str;
    /// As sent, without the `?`; empty where there is none.
    fn query(&self) -> &str;
    /// Calls `each` with the value of every field of this name, in the order they came. Names match without regard to case.
    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// The header fields as policies see them. Bytes that are no UTF-8 become U+FFFD.
pub(crate) struct Fields<'a, H: ?Sized>(pub(crate) &'a H);

impl<H: Head + ?Sized> Lookup for Fields<'_, H> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.0.field(name, &mut |value| {
            let text: Cow<'_, str> = String::from_utf8_lossy(value);
            found(&text);
        });
    }
}

/// The head as rules see it: with what is known of the call.
pub(crate) struct Routed<'a, H: ?Sized> {
    pub(crate) head: &'a H,
    /// The name that was called, as the documents write it: lower case, without a port.
    pub(crate) host: &'a str,
    /// Port of the VIP.
    pub(crate) port: u16,
    /// The caller's VPC.
    pub(crate) vpc: VpcIndex,
}

impl<H: Head + ?Sized> RequestHead for Routed<'_, H> {
    fn method(&self) -> &str {
        self.head.method()
    }

    fn host(&self) -> &str {
        self.host
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn query(&self) -> &str {
        self.head.query()
    }

    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.head.field(name, each);
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn source_vpc(&self) -> VpcIndex {
        self.vpc
    }
}
