//! Writing and reading messages and attributes (`linux/netlink.h`).

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of the type.
const TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

const fn align(n: usize) -> usize {
    (n + 3) & !3
}

/// A request being written.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    kind: u16,
    flags: u16,
}

impl Message {
    /// Starts a request of a type with the family's fixed header.
    pub(crate) fn new(kind: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(header);
        bytes.resize(align(bytes.len()), 0);
        Self { bytes, kind, flags: 0 }
    }

    /// Adds flags such as `NLM_F_CREATE`.
    pub(crate) fn flags(mut self, flags: libc::c_int) -> Self {
        self.flags |= u16::try_from(flags).unwrap_or(0);
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Adds a number in host order.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a string with its zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds a nested attribute, filled by `fill`.
    pub(crate) fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = self.attribute(kind | NESTED, &[]);
        self = fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds raw bytes, such as a second fixed header inside a nested attribute.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// The bytes to send.
    pub(super) fn finish(mut self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&(flags | self.flags).to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A received message.
pub(super) struct Received<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first that does not fit.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: &bytes[HEADER..length],
        };
        bytes = bytes.get(align(length)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Iterator over attributes.
#[derive(Clone)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// The attributes in `bytes`, after a fixed header of `header` bytes; ends at the first that does not fit.
pub(crate) fn attributes(bytes: &[u8], header: usize) -> Attributes<'_> {
    Attributes(bytes.get(align(header)..).unwrap_or(&[]))
}

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub(crate) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// The first attribute of a type as a number.
    pub(crate) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(|v| u32_at(v, 0))
    }

    /// The first attribute of a type as text, up to its zero.
    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        self.get(kind).map(|v| {
            let end = v.iter().position(|b| *b == 0).unwrap_or(v.len());
            String::from_utf8_lossy(&v[..end]).into_owned()
        })
    }

    /// The attributes inside the first attribute of a type.
    pub(crate) fn inside(&self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or(&[]))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        if length < ATTRIBUTE_HEADER || length > self.0.len() {
            return None;
        }
        let value = &self.0[ATTRIBUTE_HEADER..length];
        self.0 = self.0.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// A host-order number at an offset.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// A host-order number at an offset.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = Message::new(16, &[7; 6])
            .text(3, "eth0")
            .nested(18, |m| m.text(1, "veth").nested(2, |m| m.number(9, 77)))
            .number(4, 1500);
        let bytes = message.finish(1, 42);
        let received: Vec<_> = messages(&bytes).collect();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].sequence), (16, 42));
        let found = attributes(received[0].payload, 6);
        assert_eq!(found.text(3).as_deref(), Some("eth0"));
        assert_eq!(found.number(4), Some(1500));
        assert_eq!(found.inside(18).text(1).as_deref(), Some("veth"));
        assert_eq!(found.inside(18).inside(2).number(9), Some(77));
    }

    #[test]
    fn every_truncation_ends_quietly() {
        let bytes = Message::new(16, &[0; 16]).text(3, "eth0").nested(18, |m| m.number(2, 1)).finish(0, 1);
        for cut in 0..bytes.len() {
            for received in messages(&bytes[..cut]) {
                for (_, value) in attributes(received.payload, 16) {
                    attributes(value, 0).for_each(drop);
                }
            }
            attributes(&bytes[..cut], 0).for_each(drop);
        }
    }
}
