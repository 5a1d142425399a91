//! HTTP/1.1 and HTTP/1.0 (RFC 9112), read strictly and written without copies, without any I/O.
//!
//! A caller owns the buffers. It shows a reader the bytes that it has received; the reader keeps offsets, never bytes, and
//! says how many of them are what. What was not consumed is shown again, with more behind it, at a cost that is linear in
//! the bytes.
//!
//! ```text
//! bytes ─► RequestReader ─► RequestHead (an index of offsets, the framing, what the connection is asked to do)
//!            │                   │
//!            │                   ├─► RequestView: what rules and policies ask
//!            │                   └─► Edits ─► write::request: unchanged lines are copied in runs
//!            └─► BodyReader ─► parts: framing, data, the end with trailers
//! ```
//!
//! Nothing here allocates per message once the vectors of the index have grown.

#![forbid(unsafe_code)]

pub mod body;
mod chunked;
pub mod conversation;
pub mod edits;
pub mod framing;
pub mod index;
pub mod known;
pub mod limits;
mod line;
pub mod list;
pub mod octets;
pub mod persistence;
pub mod reason;
pub mod refusal;
pub mod request;
pub mod response;
mod section;
pub mod target;
pub mod view;
pub mod write;

pub use body::{BodyReader, Part};
pub use edits::{Edited, Edits};
pub use framing::BodyLength;
pub use index::{Fields, Index};
pub use known::{Known, Name};
pub use limits::Limits;
pub use refusal::{BadResponse, Refusal};
pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};
pub use view::{FieldsView, RequestView};

/// A version of HTTP that is read and written here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunks, no interim responses, kept only where it is asked for.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

impl Version {
    /// As it is written in the first line of a message.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    /// The version that is written so; its name is case-sensitive (RFC 9112, 2.3).
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        match text {
            b"HTTP/1.1" => Some(Self::Http11),
            b"HTTP/1.0" => Some(Self::Http10),
            _ => None,
        }
    }
}
