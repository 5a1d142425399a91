//! A copy of a request, in case that it has to be sent a second time: bytes in a room that is used again, as nearly no copy
//! is ever read.

use std::{cell::RefCell, mem};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// Rooms that a worker keeps ...
const KEPT: usize = 1_024;
/// ... of at most this size, bytes.
const KEPT_BYTES: usize = 4 * 1_024;

/// Rooms for copies, of one worker.
#[derive(Debug, Default)]
pub(crate) struct Rooms(RefCell<Vec<Vec<u8>>>);

/// Method, request target and header fields of a request.
pub(crate) struct Again<'a> {
    rooms: &'a Rooms,
    method: Method,
    uri: Uri,
    version: Version,
    /// Name and value of each field, each behind its length.
    fields: Vec<u8>,
}

impl Rooms {
    /// Copies a request without its body.
    pub(crate) fn copy<B>(&self, request: &Request<B>) -> Again<'_> {
        let mut fields = self.0.borrow_mut().pop().unwrap_or_default();
        for (name, value) in request.headers() {
            put(&mut fields, name.as_str().as_bytes());
            put(&mut fields, value.as_bytes());
        }
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        Again { rooms: self, method, uri, version, fields }
    }
}

impl Again<'_> {
    /// The request, with this body.
    pub(crate) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers();
        request
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = &self.fields[..];
        while let (Some(name), Some(value)) = (take(&mut rest), take(&mut rest)) {
            // Both were valid when they were copied.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        let mut rooms = self.rooms.0.borrow_mut();
        if rooms.len() < KEPT && self.fields.capacity() <= KEPT_BYTES {
            let mut room = mem::take(&mut self.fields);
            room.clear();
            rooms.push(room);
        }
    }
}

/// Lengths are those of one header section, which is far shorter than 4 GiB.
fn put(room: &mut Vec<u8>, bytes: &[u8]) {
    room.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
    room.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first_chunk()?;
    let (bytes, more) = more.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
    *rest = more;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_request() {
        let rooms = Rooms::default();
        let request = Request::put("/a?b=c")
            .header("host", "a.example")
            .header("x-many", "1")
            .header("accept", "*/*")
            .header("x-many", HeaderValue::from_bytes(b"\xfe").unwrap())
            .header("empty", "")
            .body(())
            .unwrap();
        let again = rooms.copy(&request).request(());
        assert_eq!(
            (again.method(), again.uri(), again.version()),
            (request.method(), request.uri(), request.version())
        );
        assert_eq!(again.headers(), request.headers());
        assert_eq!(rooms.0.borrow().len(), 1, "the room is kept");
        let fewer = Request::get("/").header("host", "b").body(()).unwrap();
        assert_eq!(rooms.copy(&fewer).request(()).headers(), fewer.headers(), "and empty");
    }
}
