//! Room that the connections of a worker lend each other: an idle one has none.

use std::cell::RefCell;

use brattice_http1::{Limits, RequestHead, RequestReader};
use bytes::BytesMut;
use http::HeaderMap;

use super::date::Date;

/// Bytes of a block that heads are read into.
const BLOCK: usize = 16 * 1024;
/// Bytes for which a block must have room before a read.
const READ: usize = 4 * 1024;
/// Room for heads of responses that is kept, bytes.
const OUTPUT: usize = 32 * 1024;
/// Fields of a map that is kept.
const FIELDS: usize = 128;

/// A head that is being read.
#[derive(Debug)]
pub(super) struct HeadReader {
    pub(super) reader: RequestReader,
    pub(super) head: RequestHead,
}

/// What a worker's connections use in turn.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    block: RefCell<BytesMut>,
    output: RefCell<BytesMut>,
    reader: RefCell<Option<Box<HeadReader>>>,
    fields: RefCell<HeaderMap>,
    pub(super) date: Date,
}

impl Spare {
    /// An empty buffer with room for a read. What is split off shares its memory, so that heads need no allocation each.
    pub(crate) fn block(&self) -> BytesMut {
        let mut block = self.block.take();
        if block.capacity() < READ {
            block.reserve(BLOCK);
        }
        block
    }

    /// The rest of a block, for the next read.
    pub(crate) fn give_block(&self, block: BytesMut) {
        debug_assert!(block.is_empty(), "what was read belongs to a connection");
        if block.capacity() <= BLOCK {
            self.block.replace(block);
        }
    }

    /// An empty buffer for a response's head.
    pub(super) fn output(&self) -> BytesMut {
        self.output.take()
    }

    /// An output buffer whose bytes were written.
    pub(super) fn give_output(&self, mut output: BytesMut) {
        if output.capacity() <= OUTPUT {
            output.clear();
            self.output.replace(output);
        }
    }

    /// For the next head.
    pub(super) fn reader(&self, limits: &Limits) -> Box<HeadReader> {
        let new = || Box::new(HeadReader { reader: RequestReader::new(limits), head: RequestHead::default() });
        self.reader.take().unwrap_or_else(new)
    }

    /// A reader whose head is complete.
    pub(super) fn give_reader(&self, reader: Box<HeadReader>) {
        self.reader.replace(Some(reader));
    }

    /// An empty map.
    pub(super) fn fields(&self) -> HeaderMap {
        self.fields.take()
    }

    /// A map that is not needed any more.
    pub(super) fn give_fields(&self, mut fields: HeaderMap) {
        if fields.capacity() <= FIELDS {
            fields.clear();
            self.fields.replace(fields);
        }
    }
}
