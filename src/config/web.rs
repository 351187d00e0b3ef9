//! The page in the browser and the metrics' port: who may ask, where, and how it is kept from others.

use std::path::PathBuf;

use serde::Serialize;

use super::options::WebOptions;
use super::parse::{Wrong, path, within};
use super::reader::switch;

/// noVNC's habit.
const DEFAULT_PORT: u16 = 6080;
/// VNC's own, which stays with QEMU.
const VNC: u16 = 5900;

/// Where the page listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Not at all.
    Off,
    /// 127.0.0.1 and ::1 of the pod.
    Loopback,
    /// The pod's address as well.
    Pod,
}

/// PEM files of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The one HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Web {
    /// `BERTH_WEB`
    pub reach: Reach,
    /// `BERTH_WEB_PORT`
    pub port: u16,
    /// `BERTH_WEB_TOKEN_FILE`: set where the reach is `pod`.
    pub token_file: Option<PathBuf>,
    /// `BERTH_WEB_READONLY`
    pub read_only: bool,
    /// `BERTH_WEB_TLS_CERT` and `BERTH_WEB_TLS_KEY`
    pub tls: Option<Tls>,
    /// `BERTH_METRICS`: a port of the pod's address.
    pub metrics: Option<u16>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            reach: Reach::Off,
            port: DEFAULT_PORT,
            token_file: None,
            read_only: false,
            tls: None,
            metrics: None,
        }
    }
}

impl Web {
    /// Ports of the pod's address that are ours: they stay with the pod.
    pub fn pod_ports(&self) -> impl Iterator<Item = u16> + use<> {
        (self.reach == Reach::Pod).then_some(self.port).into_iter().chain(self.metrics)
    }
}

impl WebOptions {
    /// `vnc`: QEMU's own server listens on the pod's address, too.
    pub(super) fn parse(&self, vnc: bool, wrong: &mut Wrong) -> Web {
        let words = [("off", Reach::Off), ("loopback", Reach::Loopback), ("pod", Reach::Pod)];
        let web = Web {
            reach: wrong.word("BERTH_WEB", &self.web, Reach::Off, &words),
            port: wrong.or(
                "BERTH_WEB_PORT",
                &self.port,
                DEFAULT_PORT,
                "a port from 1 to 65535",
                port,
            ),
            token_file: path(&self.token_file),
            read_only: wrong.or("BERTH_WEB_READONLY", &self.read_only, false, "on or off", switch),
            tls: self.tls(wrong),
            metrics: wrong
                .optional("BERTH_METRICS", &self.metrics, "off or pod:PORT", metrics)
                .flatten(),
        };
        if web.reach == Reach::Pod && web.token_file.is_none() {
            let why = "expected a file with a token: BERTH_WEB=pod is open to whoever reaches the pod (`openssl rand -hex 32` \
                       makes one)";
            wrong.refuse("BERTH_WEB_TOKEN_FILE", "", why.to_owned());
        }
        let ports: Vec<u16> = web.pod_ports().collect();
        for (variable, port) in [("BERTH_WEB_PORT", Some(web.port)), ("BERTH_METRICS", web.metrics)]
        {
            let Some(port) = port.filter(|port| ports.contains(port)) else { continue };
            let shared = ports.iter().filter(|other| **other == port).count() > 1;
            if shared || (vnc && port == VNC) {
                wrong.add(
                    variable,
                    &port.to_string(),
                    "a port that is not the page's, the metrics' or VNC's",
                );
            }
        }
        web
    }

    /// Neither, or both.
    fn tls(&self, wrong: &mut Wrong) -> Option<Tls> {
        let missing = match (path(&self.tls_cert), path(&self.tls_key)) {
            (Some(cert), Some(key)) => return Some(Tls { cert, key }),
            (None, None) => return None,
            (Some(_), None) => ("BERTH_WEB_TLS_KEY", "expected the key of BERTH_WEB_TLS_CERT"),
            (None, Some(_)) => {
                ("BERTH_WEB_TLS_CERT", "expected the certificate of BERTH_WEB_TLS_KEY")
            }
        };
        wrong.refuse(missing.0, "", missing.1.to_owned());
        None
    }
}

fn port(text: &str) -> Option<u16> {
    within(text, 1, u16::MAX)
}

/// Some(None): off.
fn metrics(text: &str) -> Option<Option<u16>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let (place, number) = text.split_once(':')?;
    place.eq_ignore_ascii_case("pod").then(|| port(number)).flatten().map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::{Ambient, Options};
    use super::*;

    fn parse(options: WebOptions) -> Result<Web, String> {
        let options = Options { web: options, ..Options::default() };
        let parsed = options.parse(&Ambient { nodename: "vm".to_owned(), ..Ambient::default() });
        parsed.map(|config| config.web).map_err(|errors| errors.to_string())
    }

    fn of(web: &str) -> WebOptions {
        WebOptions { web: Some(web.to_owned()), ..WebOptions::default() }
    }

    #[test]
    fn nothing_listens_unless_it_is_asked_for() {
        let web = parse(WebOptions::default()).unwrap();
        assert_eq!((web.reach, web.port, web.metrics), (Reach::Off, 6080, None));
        assert_eq!(web.pod_ports().count(), 0);
        assert_eq!(parse(of("loopback")).unwrap().pod_ports().count(), 0);
    }

    #[test]
    fn whoever_reaches_the_pod_needs_a_token() {
        let said = parse(of("pod")).unwrap_err();
        assert!(said.contains("BERTH_WEB_TOKEN_FILE") && said.contains("token"), "{said}");
        let web = WebOptions { token_file: Some("/t".into()), ..of("pod") };
        assert_eq!(parse(web).unwrap().pod_ports().collect::<Vec<_>>(), [6080]);
    }

    #[test]
    fn two_listeners_do_not_share_a_port() {
        for (port, metrics, good) in [
            ("6080", "pod:9177", true),
            ("9177", "pod:9177", false),
            ("5900", "off", false),
            ("6080", "pod:5900", false),
            ("6080", "pod:0", false),
            ("6080", "9177", false),
            ("6080", "all:9177", false),
        ] {
            let web = WebOptions {
                token_file: Some("/t".into()),
                port: Some(port.to_owned()),
                metrics: Some(metrics.to_owned()),
                ..of("pod")
            };
            let parsed = parse(web);
            assert_eq!(parsed.is_ok(), good, "{port} {metrics}: {parsed:?}");
        }
        // On localhost there is no VNC, and no metrics.
        let web = WebOptions {
            port: Some("9177".to_owned()),
            metrics: Some("pod:9177".to_owned()),
            ..of("loopback")
        };
        assert!(parse(web).is_ok());
    }

    #[test]
    fn a_certificate_has_a_key() {
        let cert = WebOptions { tls_cert: Some("/c".into()), ..of("loopback") };
        assert!(parse(cert.clone()).unwrap_err().contains("BERTH_WEB_TLS_KEY"));
        let key = WebOptions { tls_key: Some("/k".into()), ..of("loopback") };
        assert!(parse(key).unwrap_err().contains("BERTH_WEB_TLS_CERT"));
        let both = WebOptions { tls_key: Some("/k".into()), ..cert };
        assert!(parse(both).unwrap().tls.is_some());
    }
}
