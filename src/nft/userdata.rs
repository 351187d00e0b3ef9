//! libnftnl's type-length-values, which the kernel keeps and does not read.

/// What user space stored with an object: libnftnl's type-length-values. Bytes, so that nobody's are lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Userdata(pub Vec<u8>);

impl Userdata {
    /// A comment, of which the kernel takes 253 bytes (NFT_USERDATA_MAXLEN); more is cut.
    pub fn comment(text: &str) -> Self {
        let end =
            (0..=text.len().min(253)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let text = text.get(..end).unwrap_or("");
        let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        Self(bytes)
    }

    /// The comment of a table, chain, rule, object or element (type 0).
    pub fn as_comment(&self) -> Option<String> {
        self.comment_at(0)
    }

    /// The comment under another type, as sets have it (7).
    pub fn comment_at(&self, kind: u8) -> Option<String> {
        let value = self.value(kind)?;
        let text = value.strip_suffix(&[0]).unwrap_or(value);
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// The value of a type.
    pub fn value(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = self.0.as_slice();
        while let [kind, length, tail @ ..] = rest {
            let value = tail.get(..usize::from(*length))?;
            if *kind == wanted {
                return Some(value);
            }
            rest = tail.get(usize::from(*length)..)?;
        }
        None
    }
}
