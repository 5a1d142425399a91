//! What a rule may ask of a request.

use brattice_wire::index::VpcIndex;

/// A request's head, as the rules see it.
pub trait RequestHead {
    /// Method, as it was sent.
    fn method(&self) -> &str;
    /// Host in lower case, without port and trailing dot; empty where the request has none.
    fn host(&self) -> &str;
    /// Path as [`crate::path::normalize`] leaves it.
    fn path(&self) -> &str;
    /// Query as it was sent, without the `?`; empty where the request has none.
    fn query(&self) -> &str;
    /// Calls `each` with the value of every field of this name (lower case), in the order they came.
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8]));
    /// Port of the VIP that was called.
    fn port(&self) -> u16;
    /// The caller's VPC.
    fn source_vpc(&self) -> VpcIndex;
}
