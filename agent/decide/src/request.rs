//! A request, as far as it is known before policies and rules are asked.

use crate::{call::Call, compiled::Listener};

/// A request whose caller, service and listener are known.
#[derive(Debug)]
pub struct Request<'a, H: ?Sized> {
    /// Who calls which service.
    pub call: Call<'a>,
    /// The listener that was called.
    pub listener: &'a Listener,
    /// The name that was called, as the documents write it: lower case, without a port.
    pub host: &'a str,
    /// The request.
    pub head: &'a H,
}
