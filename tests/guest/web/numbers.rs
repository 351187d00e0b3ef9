//! What others than people ask by HTTP: numbers and readiness, for tools of others and for Prometheus itself.

use std::fs::File;
use std::process::Child;

use tempfile::TempDir;

use super::*;
use crate::metrics::{is_openmetrics, promtool};
use crate::support::world::BOOT;

/// Prometheus of another machine, with what it has seen in a directory of its own.
struct Prometheus {
    child: Child,
    _dir: TempDir,
}

const PROMETHEUS: &str = "127.0.0.1:9090";

impl Prometheus {
    fn start(netns: &Netns, target: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs: [{{job_name: berth, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let option =
            |name: &str, file: &str| format!("--{name}={}", dir.path().join(file).display());
        let child = netns
            .command("prometheus")
            .arg(option("config.file", "prometheus.yml"))
            .arg(option("storage.tsdb.path", "data"))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("prometheus, of Debian's package of that name");
        Self { child, _dir: dir }
    }

    /// The one value that a query has (HTTP API, /api/v1/query); None: it does not listen yet, or has no such series.
    fn value(netns: &Netns, query: &str) -> Option<String> {
        let address: SocketAddr = PROMETHEUS.parse().unwrap();
        netns.within(move || TcpStream::connect(address).ok())?;
        let path = format!("GET /api/v1/query?query={query}");
        let answer = ask(netns, PROMETHEUS, &path, &[], "");
        // It may come in one chunk with its length before it.
        let text = answer.text();
        let object = &text[text.find('{')?..=text.rfind('}')?];
        let said: Value = serde_json::from_str(object).ok()?;
        Some(said["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On the page and on the pod's port, for tools of others and for Prometheus itself.
#[test]
fn numbers_and_readiness_are_there_over_http() {
    let mut world = World::new();
    world.set("BERTH_WEB", "loopback").set("BERTH_METRICS", "pod:9177");
    world.set("BERTH_READY", "tcp:8080").start();
    let port = format!("{POD}:9177");
    world.until("the port", SOON, |world| world.log().contains("HTTP listens").then_some(()));
    let missing = "the guest takes no connection at TCP port 8080";
    let early = ask(&world.peer, &port, "GET /readyz", &[], "");
    assert!(early.status == 503 && early.text().lines().any(|line| line == missing));
    let told = get(&world, "/status").json();
    let reasons = told["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason == missing), "{told}");
    world.until("ready", BOOT, |world| (get(world, "/readyz").status == 200).then_some(()));
    assert_eq!(ask(&world.peer, &port, "GET /readyz", &[], "").text(), "ok\n");
    assert_eq!(get(&world, "/status").json()["reasons"], serde_json::json!([]));

    let open = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    for (netns, address) in [(&world.pod, LOCAL), (&world.peer, port.as_str())] {
        let page = ask(netns, address, "GET /metrics", &[], "");
        assert_eq!(page.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        promtool(&["check", "metrics"], page.text());
        let page = ask(netns, address, "GET /metrics", &open, "");
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(page.headers["content-type"], kind);
        is_openmetrics(page.text());
        assert!(page.text().contains("berth_console_sessions{kind=\"stdout\"} 1\n"));
    }

    let _prometheus = Prometheus::start(&world.peer, &port);
    for query in ["up", "berth_guest_vcpus", "berth_ready"] {
        let value = world.until(query, SOON, |world| Prometheus::value(&world.peer, query));
        assert_eq!(value, "1", "{query}");
    }
    assert_eq!(world.stop(), Some(0));
}
