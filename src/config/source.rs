//! Where an image comes from: a URL of http or https, or a path.
//!
//! A URL is never shown whole: its user and password, and its query, where presigned links carry their signature,
//! are masked by `Display`, `Debug` and `Serialize` alike. What goes on the wire is asked for by name.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sha2::{Digest, Sha256};
use url::{Host, ParseError};

/// Where an image is: a file, or an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// http or https.
    Url(Url),
    Path(PathBuf),
}

/// A text that is no source, as far as it may be shown, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?}: {allowed}")]
pub struct WrongSource {
    pub shown: String,
    pub allowed: &'static str,
}

const ALLOWED: &str = "an http://, https:// or file:// URL, or a path";
const NO_SCHEME: &str = "a URL with http:// or https:// in front, or a path with one / in front";

impl Source {
    /// What `IMG_SOURCE` and the chart's `sourceurl` may be. Blanks and line ends around it are not part of it.
    pub fn parse(text: &str) -> Result<Self, WrongSource> {
        let text = text.trim();
        Self::read(text).map_err(|allowed| WrongSource { shown: masked(text), allowed })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('/') {
            return if lacks_scheme(text) { Err(NO_SCHEME) } else { Ok(Self::Path(text.into())) };
        }
        let known = |scheme: &str| {
            ["http", "https", "file"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))
        };
        match text.split_once("://") {
            Some((scheme, rest)) => match known(scheme) {
                Some("file") => file(rest).map(Self::Path),
                Some(_) => Url::parse(text).map(Self::Url),
                None => Err(ALLOWED),
            },
            None if text.is_empty()
                || text.split_once(':').is_some_and(|(scheme, _)| known(scheme).is_some()) =>
            {
                Err(ALLOWED)
            }
            None if lacks_scheme(text) => Err(NO_SCHEME),
            None => Ok(Self::Path(PathBuf::from("/").join(text))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Whether it may be a URL whose scheme was forgotten, by what would be a secret in it: a user and his password, or a
/// query. As a path it would be shown whole.
fn lacks_scheme(text: &str) -> bool {
    if text.starts_with('/') && !text.starts_with("//") {
        return false;
    }
    let (authority, path) = text.trim_start_matches('/').split_once('/').unwrap_or((text, ""));
    // A password may have a slash in it that somebody forgot to encode.
    let credentials = authority.contains('@') || authority.contains(':') && path.contains('@');
    credentials || text.contains('?') || text.starts_with("//") && text.contains('@')
}

/// `file:///path` and `file://localhost/path` are the same (RFC 8089 §2).
fn file(rest: &str) -> Result<PathBuf, &'static str> {
    let path = match rest.get(..9) {
        Some(host) if host.eq_ignore_ascii_case("localhost") => rest.get(9..).unwrap_or_default(),
        _ => rest,
    };
    if !path.starts_with('/') {
        return Err("file:///PATH: a file URL names no other host");
    }
    let octets: Vec<u8> = percent_decode_str(path).collect();
    if octets.contains(&0) {
        return Err("a path without %00");
    }
    Ok(OsString::from_vec(octets).into())
}

/// A URL of http or https. Equal when all of it is, what is masked included.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(url::Url);

impl Url {
    /// Stricter than browsers are: what they mend in silence is most likely a mistake.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("a URL without blanks and line ends in it: write a blank as %20");
        }
        let (_, rest) = text.split_once("://").ok_or(ALLOWED)?;
        if rest.starts_with(['/', '\\']) {
            return Err("a URL with a host after ://");
        }
        let url = url::Url::parse(text).map_err(|error| match error {
            ParseError::InvalidPort => "a URL with a port from 1 to 65535",
            ParseError::InvalidIpv6Address => {
                "a URL with an IPv6 address in brackets and without a scope such as %eth0"
            }
            _ => "a URL with a host name or an address after ://",
        })?;
        Self::checked(url)
    }

    fn checked(url: url::Url) -> Result<Self, &'static str> {
        match url.scheme() {
            "http" | "https" if url.port() == Some(0) => Err("a URL with a port from 1 to 65535"),
            "http" | "https" if url.has_host() => Ok(Self(url)),
            _ => Err(ALLOWED),
        }
    }

    /// What a `Location` means that was answered to this URL (RFC 9110 §10.2.2).
    pub fn redirect(&self, location: &str) -> Result<Self, WrongSource> {
        let refused = |allowed| WrongSource { shown: masked(location), allowed };
        let url = self.0.join(location).map_err(|_| refused("this is no URL"))?;
        let wrong = masked(url.as_str());
        Self::checked(url)
            .map_err(|_| WrongSource { shown: wrong, allowed: "only http and https are followed" })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Scheme, host and port are the same (RFC 6454): what one is told, the other may know.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.0.origin() == other.0.origin()
    }

    /// Without brackets.
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// None for the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.0.port()
    }

    /// The port, 80 or 443 when the URL has none.
    pub fn port_or_default(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or_default()
    }

    /// The path alone, percent-encoded, without the query.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// For `Host`: the port only where it is not the scheme's own (RFC 9110 §7.2).
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// For `CONNECT` (RFC 9112 §3.2.3).
    pub(crate) fn authority_with_port(&self) -> String {
        format!("{}:{}", self.0.host_str().unwrap_or_default(), self.port_or_default())
    }

    /// What a server is asked for (RFC 9112 §3.2.1).
    pub fn origin_form(&self) -> String {
        let query = self.0.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.0.path())
    }

    /// What a proxy is asked for (RFC 9112 §3.2.2); who may have it is said in a header.
    pub fn absolute_form(&self) -> String {
        format!("{}://{}{}", self.0.scheme(), self.authority(), self.origin_form())
    }

    /// User and password as `Basic` has them (RFC 7617), percent-decoded.
    pub(crate) fn basic(&self) -> Option<String> {
        let (user, password) = (self.0.username(), self.0.password());
        if user.is_empty() && password.is_none() {
            return None;
        }
        let mut octets: Vec<u8> = percent_decode_str(user).collect();
        octets.push(b':');
        octets.extend(percent_decode_str(password.unwrap_or_default()));
        Some(format!("Basic {}", BASE64_STANDARD.encode(octets)))
    }

    /// Tells this URL from another without saying it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.0.as_str());
        digest.iter().fold("url-sha256:".to_owned(), |text, octet| text + &format!("{octet:02x}"))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.basic().is_some() { "***@" } else { "" };
        let query = if self.0.query().is_some() { "?***" } else { "" };
        write!(f, "{}://{user}{}{}{query}", self.0.scheme(), self.authority(), self.0.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Serialize for Url {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was said in the wrong place may be a URL with a password.
pub(super) fn without_secrets(text: &str) -> String {
    if text.contains("://") || text.contains('@') { masked(text) } else { text.to_owned() }
}

/// The same for a text that is no URL: it masks rather too much, since nobody knows what was meant.
pub(super) fn masked(text: &str) -> String {
    let (scheme, rest) =
        text.find(':').and_then(|colon| text.split_at_checked(colon + 1)).unwrap_or(("", text));
    let slashes = rest.len() - rest.trim_start_matches('/').len();
    let (slashes, rest) = rest.split_at_checked(slashes).unwrap_or(("", rest));
    // A scheme alone, or a path: `a:b` may be a user and his password.
    let known = !scheme.is_empty() && !slashes.is_empty();
    let (scheme, rest) =
        if known { (format!("{scheme}{slashes}"), rest) } else { (String::new(), text) };
    // Either the user is long or the query has an `@` in it.
    if let (Some(query), Some(user)) = (rest.find(['?', '#']), rest.rfind('@'))
        && query < user
    {
        return format!("{scheme}***");
    }
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (rest, query) = rest.split_once(['?', '#']).map_or((rest, ""), |(rest, _)| (rest, "?***"));
    format!("{scheme}{user}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn sources_are_urls_or_paths() {
        for (text, path) in [
            ("file:///a/b.qcow2", "/a/b.qcow2"),
            ("FILE://localhost/a b", "/a b"),
            ("file:///a%20b", "/a b"),
            ("/a/b", "/a/b"),
            ("/a/b://c?d", "/a/b://c?d"),
            ("image.qcow", "/image.qcow"),
            ("a:b.qcow2", "/a:b.qcow2"),
            (" /a b\n", "/a b"),
            ("//a/b://c", "//a/b://c"),
            ("a/b@c", "/a/b@c"),
            ("/user:password@host?query", "/user:password@host?query"),
        ] {
            assert_eq!(Source::parse(text), Ok(Source::Path(path.into())), "{text}");
        }
        for (text, shown) in [
            ("https://h/x", "https://h/x"),
            ("HTTP://H:80/x", "http://h/x"),
            ("http://h/a%20b?c", "http://h/a%20b?***"),
            ("\t http://h/x \r\n", "http://h/x"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://u:p@ss@h/x", "http://***@h/x"),
        ] {
            assert_eq!(Source::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_source_is_told_in_words() {
        for (text, word) in [
            ("", "a path"),
            ("htp://x/y", "http://, https:// or file://"),
            ("ftp://x/y", "http://, https:// or file://"),
            ("http:/x/y", "http://, https:// or file://"),
            ("https:x", "http://, https:// or file://"),
            ("http://h/a b", "%20"),
            ("http://h/a\nb", "%20"),
            ("http://", "host"),
            ("http:///x", "host"),
            ("http://:80/x", "host"),
            ("http://h:0/x", "port"),
            ("http://h:65536/x", "port"),
            ("http://h:a/x", "port"),
            ("http://[::1/x", "IPv6"),
            ("http://[fe80::1%eth0]/x", "scope"),
            ("http://[fe80::1%25eth0]/x", "scope"),
            ("file://server/x", "no other host"),
            ("file://", "no other host"),
            ("user:password@host/x?query", "http:// or https:// in front"),
            ("user@host", "http:// or https:// in front"),
            ("user:pass/word@host/x", "http:// or https:// in front"),
            ("//user:password@host/x", "http:// or https:// in front"),
            ("//user@host", "http:// or https:// in front"),
            ("host/x?query", "http:// or https:// in front"),
            ("//host/x?query", "http:// or https:// in front"),
        ] {
            let error = Source::parse(text).expect_err(text);
            assert!(error.allowed.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_go_into_a_header_only() {
        for (text, credentials) in [
            ("http://user:p%40ss@h/", "user:p@ss"),
            ("http://user:p@ss@h/", "user:p@ss"),
            ("http://user@h/", "user:"),
            ("http://:p@h/", ":p"),
            ("http://a%3ab:c%25@h/", "a:b:c%"),
            ("http://%c3%a9:%ff@h/", "\u{e9}:\u{ff}"),
        ] {
            let basic = url(text).basic().unwrap();
            let octets = BASE64_STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap();
            let wanted = match credentials {
                "\u{e9}:\u{ff}" => vec![0xc3, 0xa9, b':', 0xff],
                text => text.as_bytes().to_vec(),
            };
            assert_eq!(octets, wanted, "{text}");
            assert!(!url(text).absolute_form().contains('@'), "{text}");
        }
        assert_eq!(url("http://h/").basic(), None);
    }

    #[test]
    fn a_request_says_what_rfc_9112_wants() {
        let all = url("http://u:p@[::1]:8080/a%20b?c=d#e");
        assert_eq!(all.origin_form(), "/a%20b?c=d");
        assert_eq!(all.absolute_form(), "http://[::1]:8080/a%20b?c=d");
        assert_eq!((all.authority(), all.host()), ("[::1]:8080".to_owned(), "::1".to_owned()));
        let plain = url("https://h");
        assert_eq!(
            (plain.origin_form(), plain.authority(), plain.authority_with_port()),
            ("/".to_owned(), "h".to_owned(), "h:443".to_owned())
        );
    }

    #[test]
    fn a_location_is_read_against_the_url_it_was_answered_to() {
        let base = url("http://u:p@h/a/b?q");
        for (location, wanted) in [
            ("/x", "http://h/x"),
            ("x", "http://h/a/x"),
            ("../x", "http://h/x"),
            ("../../../x", "http://h/x"),
            ("?x", "http://h/a/b?x"),
            ("//i:81/x", "http://i:81/x"),
            ("https://i/a b", "https://i/a%20b"),
        ] {
            assert_eq!(base.redirect(location).unwrap().absolute_form(), wanted, "{location}");
        }
        for location in ["file:///etc/passwd", "ftp://h/x", "data:,x", "gopher:x"] {
            let error = base.redirect(location).unwrap_err();
            assert_eq!(
                (error.shown.as_str(), error.allowed),
                (location, "only http and https are followed")
            );
        }
        assert_eq!(base.redirect("http://[::1").unwrap_err().allowed, "this is no URL");
    }

    #[test]
    fn no_secret_is_shown() {
        for text in [
            "http://user:secret@h/x?sig=secret#secret",
            "https://secret@h/x",
            "http://:secret@h/",
            "http://h?secret",
            "http://user:secret@h:99999/x?secret",
            "http://user:sec/secret@h/x",
            "http://user:sec ret@h/x?secret",
            "htp://user:secret@h/x?secret",
            "http:/user:secret@h/x",
            "http:user:secret@h/x",
            "user:secret@h://x?secret",
            "http://h/x#?secret",
            "user:secret@h/x?secret",
            "secret@h",
            "user:secret@h",
            "user:sec/secret@h/x",
            "user:secret?@h/x",
            "//user:secret@h/x?secret",
            "//user:secret@h",
            "h/x?secret",
            "h/x?sig=a@secret",
            "//h:80/x?secret",
            "htp://h/x?sig=a@secret",
            "htp://user:secret?@h/x",
        ] {
            let shown = match Source::parse(text) {
                Ok(Source::Url(url)) => {
                    format!("{url} {url:?} {}", serde_json::to_string(&url).unwrap())
                }
                Ok(Source::Path(_)) => continue,
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("secret") && !shown.contains("ret@"), "{text}: {shown}");
        }
        let (one, two) = (url("http://u:secret@h/x"), url("http://u:other@h/x"));
        assert_eq!(one.to_string(), two.to_string());
        assert!(one.fingerprint() != two.fingerprint() && !one.fingerprint().contains("secret"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_password_is_shown(
            before in "[a-z:/@?#%\\[\\] ]{0,12}", after in ".{0,20}",
        ) {
            let _ = Source::parse(&after);
            let text = format!("http://{before}:hunter2@{after}");
            let shown = match Source::parse(&text) {
                Ok(source) => format!("{source} {source:?}"),
                Err(error) => error.to_string(),
            };
            // In a path it is a path: `http://h/:hunter2@` has no password in it.
            let in_path = before.trim_start_matches('/').contains(['/', '?', '#']);
            proptest::prop_assert!(in_path || !shown.contains("hunter2"), "{}: {}", text, shown);
        }
    }
}
