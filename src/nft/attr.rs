//! Netlink attributes as nf_tables and conntrack use them (linux/netlink.h, net/netlink/attr.c).
//!
//! Written with zero padding to four bytes and integers in network order; read without trust: a length that
//! does not fit ends the walk. Nothing here knows what an attribute means.

/// Set on the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// `nlmsghdr` and `nfgenmsg`.
pub(crate) const HEADER_LEN: usize = 16;

/// Builds attributes, or whole messages, one after another.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether an attribute did not fit into its 16-bit length; the bytes must then not be sent.
    pub(crate) fn too_long(&self) -> bool {
        self.too_long
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes as they are, without a header or padding.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An attribute of bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |writer| writer.raw(value));
    }

    /// An attribute of text, and the NUL after it.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |writer| {
            writer.raw(text.as_bytes());
            writer.raw(&[0]);
        });
    }

    /// An attribute of one octet.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A number, in network order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number, in network order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number, in network order.
    pub fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn some_u32(&mut self, kind: u16, value: Option<u32>) {
        if let Some(value) = value {
            self.u32(kind, value);
        }
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.raw(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.too_long = true;
            u16::MAX
        });
        self.patch(start, &length.to_ne_bytes());
        self.patch(start + 2, &kind.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    /// One netlink message with a netfilter header; its length is filled in when `fill` is done.
    pub fn message(&mut self, header: Header, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.raw(&[0; 4]);
        self.raw(&header.kind.to_ne_bytes());
        self.raw(&header.flags.to_ne_bytes());
        self.raw(&header.sequence.to_ne_bytes());
        self.raw(&0u32.to_ne_bytes());
        self.raw(&[header.family, header.version]);
        self.raw(&header.resource.to_be_bytes());
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        for (byte, value) in self.bytes.iter_mut().skip(at).zip(value) {
            *byte = *value;
        }
    }
}

/// What stands before the attributes: `nlmsghdr` without its length and port, and `nfgenmsg`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// `nlmsg_type`.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// Told back in what answers it.
    pub sequence: u32,
    /// `nfgen_family`.
    pub family: u8,
    /// Of nfnetlink: 0.
    pub version: u8,
    /// `res_id`; in dump replies the low 16 bits of the generation.
    pub resource: u16,
}

/// A message as received. `body` is what follows `nlmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// That of the request it answers.
    pub sequence: u32,
    /// `nfgenmsg` and attributes.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// `nfgen_family`; 0 when the message is too short to have one.
    pub fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or(0)
    }

    /// Attributes after `nfgenmsg`.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(4..).unwrap_or(&[]))
    }
}

/// The messages of one datagram; ends at the first whose length does not hold.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(array(self.0, 0)?)).ok()?;
        let message = self.0.get(..length)?;
        let result = Message {
            kind: u16::from_ne_bytes(array(message, 4)?),
            flags: u16::from_ne_bytes(array(message, 6)?),
            sequence: u32::from_ne_bytes(array(message, 8)?),
            body: message.get(16..)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(result)
    }
}

/// A run of attributes, as an iterator and as a table.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let kind = u16::from_ne_bytes(array(self.0, 2)?) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first of a type.
    pub fn value(self, wanted: u16) -> Option<&'a [u8]> {
        let mut attributes = self;
        attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    pub(crate) fn nest(self, kind: u16) -> Option<Attributes<'a>> {
        self.value(kind).map(Attributes)
    }

    /// Its first octet.
    pub fn u8(self, kind: u16) -> Option<u8> {
        self.value(kind)?.first().copied()
    }

    /// A number, in network order; None when it is shorter.
    pub fn u16(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(array(self.value(kind)?, 0)?))
    }

    /// A number, in network order; None when it is shorter.
    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(array(self.value(kind)?, 0)?))
    }

    /// A number, in network order; None when it is shorter.
    pub fn i32(self, kind: u16) -> Option<i32> {
        Some(i32::from_be_bytes(array(self.value(kind)?, 0)?))
    }

    /// A number, in network order; None when it is shorter.
    pub fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(array(self.value(kind)?, 0)?))
    }

    /// Text up to its NUL; bytes that are not UTF-8 are replaced.
    pub fn text(self, kind: u16) -> Option<String> {
        Some(String::from_utf8_lossy(self.name(kind)?).into_owned())
    }

    /// The bytes of a text.
    pub fn name(self, kind: u16) -> Option<&'a [u8]> {
        let bytes = self.value(kind)?;
        bytes.split(|byte| *byte == 0).next()
    }

    /// Whether there is nothing but the given types.
    pub fn only(self, kinds: &[u16]) -> bool {
        let mut attributes = self;
        attributes.all(|(kind, _)| kinds.contains(&kind))
    }
}

/// `N` bytes at `at`, when there are as many.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_carry_the_flag() {
        let mut writer = Writer::new();
        writer.nest(4, |writer| {
            writer.text(1, "ab");
            writer.u64(2, 1);
        });
        #[rustfmt::skip]
        let wanted = [
            24, 0, 4, 0x80,
            7, 0, 1, 0, b'a', b'b', 0, 0,
            12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ];
        assert_eq!(writer.into_bytes(), wanted);
    }

    #[test]
    fn an_attribute_past_64_kib_is_told_not_cut() {
        let mut writer = Writer::new();
        writer.bytes(1, &vec![0; 65_531]);
        assert!(!writer.too_long());
        writer.bytes(1, &vec![0; 65_532]);
        assert!(writer.too_long());
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_walked(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes) {
                let _ = (message.family(), message.attributes().count());
            }
            let attributes = Attributes(&bytes);
            let _ = (attributes.u8(1), attributes.u16(2), attributes.u32(3), attributes.u64(4), attributes.text(5));
            prop_assert!(attributes.count() <= bytes.len() / 4);
        }
    }
}
