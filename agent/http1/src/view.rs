//! What may be asked of a head, whatever holds it: a buffer of HTTP/1 ([`crate::RequestHead`]), one that is being changed
//! ([`crate::Edited`]), a decoded header section of HTTP/2.

use crate::{Known, Name};

/// Fields of a header or trailer section.
pub trait FieldsView {
    /// Calls `found` with the value of every field of this name, in the order they came. Names match without regard to case.
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8]));

    /// Calls `found` with the name, as written, and the value of every field.
    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8]));

    /// As [`FieldsView::each`], for a name that is not known to be known.
    fn field(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        self.each(Name::from(name), found);
    }

    /// How many fields of a name there are.
    fn count(&self, name: Known) -> usize {
        let mut count = 0;
        self.each(Name::Known(name), &mut |_| count += 1);
        count
    }

    /// Whether there is a field of this name.
    fn has(&self, name: Known) -> bool {
        self.count(name) > 0
    }
}

/// A request's head.
pub trait RequestView: FieldsView {
    /// As sent.
    fn method(&self) -> &str;
    /// As sent, without the query; `/` where an absolute URI has none, empty where there can be none (`CONNECT`).
    fn path(&self) -> &str;
    /// As sent, without the `?`; `None`: there is none.
    fn query(&self) -> Option<&str>;
    /// The host of an absolute request target (`:authority` of HTTP/2), as sent: with its port, if it has one. The field `host` is
    /// asked for as any other.
    fn authority(&self) -> Option<&str>;
}

impl<T: FieldsView + ?Sized> FieldsView for &T {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        (**self).each(name, found);
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        (**self).fields(found);
    }
}

impl<T: RequestView + ?Sized> RequestView for &T {
    fn method(&self) -> &str {
        (**self).method()
    }

    fn path(&self) -> &str {
        (**self).path()
    }

    fn query(&self) -> Option<&str> {
        (**self).query()
    }

    fn authority(&self) -> Option<&str> {
        (**self).authority()
    }
}
