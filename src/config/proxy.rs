//! The proxies of the environment, by curl's rules (curl(1), ENVIRONMENT and PROXY PROTOCOL PREFIXES).
//!
//! `http_proxy` counts in lower case only, since `HTTP_PROXY` may come from the `Proxy` header of a CGI request.
//! `https_proxy`, `all_proxy` and `no_proxy` may be in upper case; lower case goes first. What cannot be used is an
//! error only for a URL that would go by it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::source::{Url, masked};

/// What the environment says about proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    except: NoProxy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Setting {
    Proxy(Proxy),
    Unusable(Unusable),
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Proxy(proxy) => serializer.collect_str(proxy),
            Self::Unusable(unusable) => serializer.collect_str(unusable),
        }
    }
}

/// A proxy of http, itself spoken to by http or https.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub url: Url,
    /// curl's default differs from the scheme's: 1080 for http.
    pub port: u16,
    /// Whose value it is.
    pub variable: &'static str,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.url.is_https() { "https" } else { "http" };
        let user = if self.url.basic().is_some() { "***@" } else { "" };
        let host = self.url.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        write!(f, "{scheme}://{user}{host}:{} ({})", self.port, self.variable)
    }
}

/// A value that names no proxy we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={shown:?}: {allowed}")]
pub struct Unusable {
    pub variable: &'static str,
    pub shown: String,
    pub allowed: &'static str,
}

impl Proxies {
    pub const NONE: Self = Self { http: None, https: None, except: NoProxy(String::new()) };

    /// From variables by name; an empty one counts as unset.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| {
                variable(name)
                    .map(|text| text.trim().to_owned())
                    .filter(|text| !text.is_empty())
                    .map(|text| (*name, text))
            };
            names.iter().find_map(set)
        };
        let setting = |names| first(names).map(|(name, text)| Setting::read(name, &text));
        Self {
            http: setting(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: setting(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            except: NoProxy(
                first(&["no_proxy", "NO_PROXY"]).map(|(_, text)| text).unwrap_or_default(),
            ),
        }
    }

    /// Whether no URL goes through a proxy.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The proxy for this URL, if there is to be one.
    pub fn of(&self, url: &Url) -> Result<Option<&Proxy>, &Unusable> {
        let setting = if url.is_https() { &self.https } else { &self.http };
        match setting {
            Some(_) if self.except.holds(&url.host()) => Ok(None),
            Some(Setting::Proxy(proxy)) => Ok(Some(proxy)),
            Some(Setting::Unusable(unusable)) => Err(unusable),
            None => Ok(None),
        }
    }
}

impl Setting {
    fn read(variable: &'static str, text: &str) -> Self {
        match Proxy::read(variable, text) {
            Ok(proxy) => Self::Proxy(proxy),
            Err(allowed) => {
                Self::Unusable(Unusable { variable, shown: masked_proxy(text), allowed })
            }
        }
    }
}

impl Proxy {
    fn read(variable: &'static str, text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "http" => 1080,
            "https" => 443,
            _ => {
                return Err(
                    "a proxy of http, as in http://proxy.example:3128; SOCKS is not supported",
                );
            }
        };
        let url = Url::parse(&format!("{scheme}://{rest}"))
            .map_err(|_| "a proxy as in http://user:password@proxy.example:3128")?;
        let port = explicit_port(rest).unwrap_or(default);
        Ok(Self { url, port, variable })
    }
}

/// A URL does not keep the port that its scheme has anyway.
fn explicit_port(rest: &str) -> Option<u16> {
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.rsplit_once(':')?.1.parse().ok()
}

fn masked_proxy(text: &str) -> String {
    if text.contains("://") { masked(text) } else { masked(&format!("http://{text}")) }
}

/// Hosts that are asked directly: `*` for all, else names with all below them, addresses, and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct NoProxy(String);

impl NoProxy {
    fn holds(&self, host: &str) -> bool {
        let mut words =
            self.0.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        if self.0 == "*" {
            return true;
        }
        match host.parse::<IpAddr>() {
            Ok(address) => words.any(|word| covers(word, address)),
            Err(_) => words.any(|word| is_or_is_above(word, host)),
        }
    }
}

fn covers(word: &str, address: IpAddr) -> bool {
    if let Ok(net) = word.parse::<IpNet>() {
        return net.contains(&address);
    }
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    bare.parse() == Ok(address)
}

fn is_or_is_above(word: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let word = word.strip_suffix('.').unwrap_or(word);
    let word = word.strip_prefix('.').unwrap_or(word).to_ascii_lowercase();
    !word.is_empty()
        && host.strip_suffix(&word).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(set: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
        })
    }

    fn told(set: &[(&str, &str)], url: &str) -> String {
        match proxies(set).of(&Url::parse(url).unwrap()) {
            Ok(Some(proxy)) => proxy.to_string(),
            Ok(None) => "direct".to_owned(),
            Err(unusable) => unusable.to_string(),
        }
    }

    #[test]
    fn variables_are_read_as_curl_reads_them() {
        let (http, https) = ("http://h/x", "https://h/x");
        for (set, url, wanted) in [
            (&[][..], http, "direct"),
            (&[("http_proxy", "http://p:3128")], http, "http://p:3128 (http_proxy)"),
            (&[("http_proxy", "http://p:80/")], http, "http://p:80 (http_proxy)"),
            (&[("http_proxy", "p")], http, "http://p:1080 (http_proxy)"),
            (&[("http_proxy", "https://p")], http, "https://p:443 (http_proxy)"),
            (&[("http_proxy", "[::1]:80")], http, "http://[::1]:80 (http_proxy)"),
            (&[("http_proxy", "http://[::1]")], http, "http://[::1]:1080 (http_proxy)"),
            (&[("http_proxy", "http://u:p%40@p:1")], http, "http://***@p:1 (http_proxy)"),
            (&[("HTTP_PROXY", "p")], http, "direct"),
            (&[("http_proxy", "p")], https, "direct"),
            (&[("http_proxy", ""), ("all_proxy", "p:1")], http, "http://p:1 (all_proxy)"),
            (&[("HTTPS_PROXY", "p:1")], https, "http://p:1 (HTTPS_PROXY)"),
            (&[("HTTPS_PROXY", "p:1"), ("https_proxy", "q:2")], https, "http://q:2 (https_proxy)"),
            (&[("ALL_PROXY", "p:1")], https, "http://p:1 (ALL_PROXY)"),
            (&[("ALL_PROXY", "p:1"), ("HTTPS_PROXY", "q:2")], https, "http://q:2 (HTTPS_PROXY)"),
            (&[("https_proxy", "socks5://s")], http, "direct"),
        ] {
            assert_eq!(told(set, url), wanted, "{set:?} {url}");
        }
        let unusable = told(&[("all_proxy", "socks5://u:secret@s:1")], http);
        assert!(
            unusable.starts_with("all_proxy=\"socks5://***@s:1\"") && unusable.contains("SOCKS"),
            "{unusable}"
        );
        assert!(told(&[("http_proxy", "p:x")], http).contains("proxy.example"), "{unusable}");
    }

    #[test]
    fn who_needs_no_proxy_is_told_as_curl_tells_it() {
        for (list, host, direct) in [
            ("*", "h", true),
            ("h", "h", true),
            ("H", "h", true),
            ("h", "a.h", true),
            (".h", "h", true),
            (".h", "a.h", true),
            ("h", "ah", false),
            ("h.", "a.h", true),
            ("h", "a.h.", true),
            ("a.h", "h", false),
            ("x, y h", "h", true),
            (".", "h", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.12", false),
            ("0.0.1", "10.0.0.1", false),
            ("10.211.0.0/24", "10.211.0.7", true),
            ("10.211.0.0/24", "10.211.1.7", false),
            ("10.211.0.9/24", "10.211.0.7", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/", "10.0.0.0", false),
            ("::1", "[::1]", true),
            ("[::1]", "[::1]", true),
            ("0:0::1", "[::1]", true),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("10.0.0.0/8", "[fd12::1]", false),
            ("h:80", "h", false),
        ] {
            let url = format!("http://{host}:8080/x");
            let found = told(&[("http_proxy", "p"), ("NO_PROXY", list)], &url) == "direct";
            assert_eq!(found, direct, "{list} {host}");
        }
        let both = [("http_proxy", "p"), ("no_proxy", "other"), ("NO_PROXY", "h")];
        assert_ne!(told(&both, "http://h/"), "direct", "lower case goes first");
    }

    #[test]
    fn no_password_of_a_proxy_is_shown() {
        for text in [
            "http://u:secret@p:1",
            "u:secret@p:1",
            "u:secret@p:x",
            "socks5h://u:secret@p",
            "u:secret@@p:x",
        ] {
            let found = proxies(&[("http_proxy", text)]);
            let json = serde_json::to_string(&found).unwrap();
            let shown = format!("{found:?} {json} {}", told(&[("http_proxy", text)], "http://h/"));
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
