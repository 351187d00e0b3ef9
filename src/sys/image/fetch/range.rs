//! What a server says it sends: which octets, of how many, of which version (RFC 9110 §8.8, §14.4, §15.3.7).

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What a part may be taken up from: octets as they came, of a version with a name.
#[derive(Debug, Clone)]
pub struct Resume {
    pub have: u64,
    pub validator: Option<String>,
    /// As an earlier answer for the same version said.
    pub total: Option<u64>,
}

impl Resume {
    pub(crate) const NOTHING: Self = Self { have: 0, validator: None, total: None };

    /// Of a part of so many octets, by the note beside it: fingerprint of the URL, validator, boot, length of the whole
    /// where one was told. Only what is known to be of this URL, and to be all there, is taken up.
    pub fn noted(note: &str, identity: &str, boot: &str, have: u64, total: Option<u64>) -> Self {
        let mut lines = note.lines();
        let same = lines.next() == Some(identity);
        let sendable = |line: &&str| !line.is_empty() && HeaderValue::from_str(line).is_ok();
        let validator = lines.next().filter(|line| same && sendable(line)).map(str::to_owned);
        let all_there = lines.next() == Some(boot);
        // Absent where no length was told.
        let noted = lines.next().map(number);
        let total = total.or(noted.flatten());
        let fits = total.is_none_or(|total| have <= total);
        if validator.is_some() && all_there && noted != Some(None) && fits {
            Self { have, validator, total }
        } else {
            Self::NOTHING
        }
    }

    /// For `Range` and `If-Range`.
    pub fn range(&self) -> Option<(String, &str)> {
        match &self.validator {
            Some(validator) if self.have > 0 => Some((format!("bytes={}-", self.have), validator)),
            _ => None,
        }
    }
}

/// The octets that an answer holds, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    /// Where this answer ends, the whole or not.
    pub end: Option<u64>,
    /// The length of the whole.
    pub total: Option<u64>,
}

impl Extent {
    /// Of an answer with 200: the whole.
    pub fn whole(headers: &HeaderMap) -> Self {
        let length = length(headers);
        Self { start: 0, end: length, total: length }
    }

    /// Of one with 206. It has to be what was asked for, of the same version and as long as was said before.
    pub fn part(headers: &HeaderMap, asked: &Resume) -> Result<Self, String> {
        let told = text(headers, header::CONTENT_RANGE).unwrap_or_default();
        let range = ContentRange::parse(told).ok_or_else(|| {
            format!("the server answered with a part and Content-Range {told:?}, which says not what it is")
        })?;
        let have = asked.have;
        let ContentRange::Part { start, end, total } = range else {
            return Err(format!("the server answered with a part and Content-Range {told:?}"));
        };
        if start != have {
            return Err(format!(
                "the server answered with another range, {told:?}, and {have} was asked for"
            ));
        }
        if length(headers).is_some_and(|length| length != end - start) {
            return Err(format!(
                "the server answered with Content-Range {told:?} and another Content-Length"
            ));
        }
        same_version(headers, asked)?;
        if let (Some(before), Some(now)) = (asked.total, total)
            && before != now
        {
            return Err(format!(
                "the server answered with a part of {now} octets, and {before} they were before"
            ));
        }
        let total = total.or(asked.total).ok_or_else(|| {
            format!("the server answered with Content-Range {told:?}, which says not how much the whole is")
        })?;
        Ok(Self { start, end: Some(end), total: Some(total) })
    }

    /// Of one with 416: nothing is missing when the part is as long as the whole is, and was said to be before.
    pub fn nothing_left(headers: &HeaderMap, asked: &Resume) -> Option<Self> {
        match ContentRange::parse(text(headers, header::CONTENT_RANGE)?)? {
            ContentRange::Length(total)
                if total == asked.have
                    && asked.total.is_none_or(|before| before == total)
                    && same_version(headers, asked).is_ok() =>
            {
                Some(Self { start: total, end: Some(total), total: Some(total) })
            }
            _ => None,
        }
    }
}

/// The validator of a part is the one that was sent, where it is said at all.
fn same_version(headers: &HeaderMap, asked: &Resume) -> Result<(), String> {
    let Some(sent) = &asked.validator else { return Ok(()) };
    let name = if sent.starts_with('"') { header::ETAG } else { header::LAST_MODIFIED };
    match headers.get(name).map(HeaderValue::as_bytes) {
        Some(told) if told != sent.as_bytes() => {
            let told = String::from_utf8_lossy(told);
            Err(format!(
                "the server answered with a part of another version, {told}, and {sent} was asked for"
            ))
        }
        _ => Ok(()),
    }
}

/// RFC 9110 §14.4. The end is exclusive here.
#[derive(Debug, PartialEq, Eq)]
enum ContentRange {
    Part {
        start: u64,
        end: u64,
        total: Option<u64>,
    },
    /// Unsatisfied: only how long the whole is.
    Length(u64),
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        if range == "*" {
            return number(total).map(Self::Length);
        }
        let (first, last) = range.split_once('-')?;
        let (start, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let end = last.checked_add(1)?;
        (start < end && total.is_none_or(|total| end <= total)).then_some(Self::Part {
            start,
            end,
            total,
        })
    }
}

/// Digits only: `parse` takes a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Not where the body is chunked: then it says nothing (RFC 9112 §6.3).
fn length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    number(text(headers, header::CONTENT_LENGTH)?)
}

/// A strong ETag, else a date that is strong. A weak one does not promise the same bytes (RFC 9110 §13.1.5), nor
/// does a file that changed in the second of the answer (§8.8.2.2).
pub fn validator(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, header::ETAG).filter(|etag| etag.starts_with('"'));
    let modified = || {
        let told = text(headers, header::LAST_MODIFIED)?;
        (text(headers, header::DATE) != Some(told)).then_some(told)
    };
    etag.or_else(modified).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn content_ranges_are_read_whole() {
        let part = |start, end, total| Some(ContentRange::Part { start, end, total });
        for (text, wanted) in [
            ("bytes 0-4/10", part(0, 5, Some(10))),
            ("Bytes 5-9/10", part(5, 10, Some(10))),
            ("bytes 5-9/*", part(5, 10, None)),
            ("bytes */10", Some(ContentRange::Length(10))),
            ("bytes 5-4/10", None),
            ("bytes 5-10/10", None),
            ("bytes 5-9", None),
            ("bytes 5-/10", None),
            ("bytes -9/10", None),
            ("bytes */*", None),
            ("bytes +5-9/10", None),
            ("bytes 5-9/+10", None),
            ("bytes=5-9/10", None),
            ("octets 5-9/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-4/99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_part_that_contradicts_is_refused() {
        let asked = |total| Resume { have: 5, validator: Some("\"one\"".into()), total };
        let range = ("content-range", "bytes 5-9/20");
        let extent = |lines: &[_], total| Extent::part(&headers(lines), &asked(total));
        let good = Ok(Extent { start: 5, end: Some(10), total: Some(20) });
        assert_eq!(extent(&[range], None), good);
        assert_eq!(extent(&[range, ("etag", "\"one\""), ("content-length", "5")], Some(20)), good);
        assert_eq!(extent(&[("content-range", "bytes 5-9/*")], Some(20)), good);
        for (lines, total, word) in [
            (&[("content-range", "bytes 6-9/20")][..], None, "another range"),
            (&[("content-range", "bytes */20")], None, "bytes */20"),
            (&[("content-range", "bytes 5-9")], None, "bytes 5-9"),
            (&[], None, "Content-Range"),
            (&[("content-range", "bytes 5-9/*")], None, "the whole"),
            (&[range, ("content-length", "6")], None, "another Content-Length"),
            (&[range, ("etag", "\"two\"")], None, "another version"),
            (&[range, ("etag", "W/\"one\"")], None, "another version"),
            (&[range], Some(21), "21 they were before"),
        ] {
            let error = extent(lines, total).unwrap_err();
            assert!(error.contains(word), "{lines:?}: {error}");
        }
        let dated = Resume {
            have: 5,
            validator: Some("Tue, 03 Nov 2026 10:00:00 GMT".into()),
            total: None,
        };
        let of = |date| {
            Extent::part(&headers(&[range, ("etag", "\"x\""), ("last-modified", date)]), &dated)
        };
        assert!(of("Tue, 03 Nov 2026 10:00:00 GMT").is_ok());
        assert!(of("Tue, 03 Nov 2026 10:00:01 GMT").is_err());
    }

    #[test]
    fn nothing_is_left_only_where_the_lengths_agree() {
        let (five, four) = (("content-range", "bytes */5"), ("content-range", "bytes */4"));
        for (lines, total, nothing) in [
            (&[five][..], None, true),
            (&[five], Some(5), true),
            (&[five, ("etag", "\"one\"")], Some(5), true),
            (&[five], Some(6), false),
            (&[five], Some(4), false),
            (&[four], None, false),
            (&[four], Some(4), false),
            (&[five, ("etag", "\"two\"")], None, false),
            (&[], None, false),
            (&[], Some(5), false),
        ] {
            let asked = Resume { have: 5, validator: Some("\"one\"".into()), total };
            let left = Extent::nothing_left(&headers(lines), &asked);
            assert_eq!(left.is_some(), nothing, "{lines:?} {total:?}");
        }
    }

    #[test]
    fn only_what_is_strong_names_a_version() {
        let (early, late) = ("Tue, 03 Nov 2026 10:00:00 GMT", "Tue, 03 Nov 2026 10:00:01 GMT");
        for (lines, wanted) in [
            (&[("etag", "\"a\""), ("last-modified", early)][..], Some("\"a\"")),
            (&[("etag", "W/\"a\""), ("last-modified", early), ("date", late)], Some(early)),
            (&[("last-modified", early)], Some(early)),
            (&[("last-modified", early), ("date", early)], None),
            (&[("etag", "W/\"a\"")], None),
            (&[], None),
        ] {
            assert_eq!(validator(&headers(lines)).as_deref(), wanted, "{lines:?}");
        }
    }

    #[test]
    fn a_chunked_answer_has_no_length_of_its_own() {
        let both = headers(&[("content-length", "7"), ("transfer-encoding", "chunked")]);
        assert_eq!(Extent::whole(&both), Extent { start: 0, end: None, total: None });
        assert_eq!(Extent::whole(&headers(&[("content-length", "7")])).total, Some(7));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(range in "(bytes )?[0-9*/ +-]{0,24}", length in "[0-9]{0,22}", have in 0..20u64) {
            let headers = headers(&[("content-range", &range), ("content-length", &length)]);
            let asked = Resume { have, validator: Some("\"one\"".into()), total: None };
            if let Ok(Extent { start, end, total }) = Extent::part(&headers, &asked) {
                let end = end.unwrap();
                proptest::prop_assert!(start == have && start < end && total.is_none_or(|total| end <= total));
            }
        }
    }
}
