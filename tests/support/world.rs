//! A pod with a real guest: three namespaces wired as Calico wires them, the built binary in the middle one.
//!
//! ```text
//! peer 10.244.7.3 ── node (169.254.1.1) ── 10.244.7.2 pod: berth run, QEMU (TCG), the tiny guest
//! ```
//!
//! Everything is bounded in time; what a test started is ended, by id, when the world is dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Netns, checked, find, run, veth};

pub const POD: &str = "10.244.7.2";
pub const PEER: &str = "10.244.7.3";
const GATEWAY: &str = "169.254.1.1";
/// With [`World::dual_stack`].
pub const POD6: &str = "2001:db8:7::2";
pub const PEER6: &str = "2001:db8:8::3";

/// How long a guest may take to come up on a busy machine. It is 10 s of a processor: with five who want each processor
/// more than 90 s went by.
pub const BOOT: Duration = Duration::from_secs(150);

pub struct World {
    pub pod: Netns,
    /// Routes between the two; held for its end.
    _node: Netns,
    pub peer: Netns,
    pub dir: tempfile::TempDir,
    pub env: BTreeMap<String, String>,
    pub args: Vec<String>,
    /// Where the guest is reached.
    pub address: &'static str,
    berth: Option<Child>,
    starts: u32,
}

/// The path of the cached tiny guest, built when it is not there.
pub fn tiny() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guest/tiny.sh");
    PathBuf::from(checked(Command::new("bash").arg(script)).trim())
}

fn wire(node: &Netns, netns: &Netns, address: &str, link: &str) {
    veth(netns, "eth0", node, link);
    netns.ip("link set eth0 mtu 1450");
    node.ip(&format!("link set {link} mtu 1450"));
    node.ip(&format!("addr add {GATEWAY}/32 dev {link}"));
    node.ip(&format!("route add {address}/32 dev {link}"));
    netns.ip(&format!("addr add {address}/32 dev eth0"));
    netns.ip(&format!("route add {GATEWAY} dev eth0 scope link"));
    netns.ip(&format!("route add default via {GATEWAY} dev eth0"));
}

impl World {
    /// A world with nothing running. The guest boots from a copy-on-write overlay of the cached image.
    pub fn new() -> Self {
        let (pod, node, peer) = (Netns::new("pod"), Netns::new("node"), Netns::new("peer"));
        node.run("sysctl -qw net.ipv4.ip_forward=1");
        wire(&node, &pod, POD, "pod0");
        wire(&node, &peer, PEER, "peer0");
        let dir = tempfile::tempdir().unwrap();
        for name in ["image", "state"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(
            dir.path().join("resolv.conf"),
            format!("search demo.example\nnameserver {PEER}\n"),
        )
        .unwrap();
        std::fs::write(dir.path().join("userdata"), "#cloud-config\n{}\n").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let env = [
            ("HOSTNAME", "demo".to_owned()),
            ("IMG_TARGET", tiny().display().to_string()),
            ("IMG_VCPU", "1".to_owned()),
            ("IMG_RAM_MB", "192".to_owned()),
            ("BERTH_ACCEL", "tcg".to_owned()),
            ("BERTH_IMAGE_DIR", path("image")),
            ("BERTH_STATE_DIR", path("state")),
            ("BERTH_RESOLV_CONF", path("resolv.conf")),
            ("BERTH_METADATA", path("metadata")),
            ("BERTH_USERDATA", path("userdata")),
            ("BERTH_DEVICE_DIR", path("dev")),
            ("BERTH_VOLUMES_DIR", path("volumes")),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let args = Vec::new();
        Self { pod, _node: node, peer, dir, env, args, address: POD, berth: None, starts: 0 }
    }

    /// IPv6 as Calico wires it: a /128, the next hop a link-local address of the node, which alone forwards.
    pub fn dual_stack(&mut self) -> &mut Self {
        self._node.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        for (netns, address, link) in [(&self.pod, POD6, "pod0"), (&self.peer, PEER6, "peer0")] {
            self._node.ip(&format!("addr add fe80::ecee/64 dev {link} nodad"));
            self._node.ip(&format!("route add {address}/128 dev {link}"));
            netns.ip(&format!("addr add {address}/128 dev eth0 nodad"));
            netns.ip("-6 route add default via fe80::ecee dev eth0");
        }
        self
    }

    /// The node's own global address: what its errors come from, which else are of a link-local one.
    pub fn node6(&self) {
        self._node.ip("addr add 2001:db8:7::1/128 dev lo");
    }

    /// No IPv4 at all; the pod's IPv6 address is still tentative.
    pub fn ipv6_only(&mut self) -> &mut Self {
        self.dual_stack();
        for netns in [&self.pod, &self.peer] {
            netns.ip("-4 addr flush dev eth0");
        }
        std::fs::write(self.path("resolv.conf"), format!("nameserver {PEER6}\n")).unwrap();
        self.pod.ip(&format!("addr del {POD6}/128 dev eth0"));
        self.pod.ip(&format!("addr add {POD6}/128 dev eth0"));
        self.address = POD6;
        self
    }

    /// The pod's IPv6 address is another from now on.
    pub fn readdress(&mut self, address: &'static str) {
        self._node.ip(&format!("route add {address}/128 dev pod0"));
        self.pod.ip(&format!("addr add {address}/128 dev eth0 nodad"));
        self.pod.ip(&format!("addr del {POD6}/128 dev eth0"));
        self.address = address;
    }

    /// The pod's IPv4 address is another from now on, as a new pod's would be.
    pub fn move_to(&mut self, address: &'static str) {
        self._node.ip(&format!("route add {address}/32 dev pod0"));
        self.pod.ip(&format!("addr add {address}/32 dev eth0"));
        self.pod.ip(&format!("addr del {}/32 dev eth0", self.address));
        self.address = address;
    }

    /// The pod is given an address of a /64 on which the peer is, as Docker wires it: the node answers for the one to the other.
    pub fn on_link(&self, address: &str, peer: &str) {
        self._node.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        for (netns, own, other, link) in
            [(&self.pod, address, peer, "pod0"), (&self.peer, peer, address, "peer0")]
        {
            self._node.run(&format!("sysctl -qw net.ipv6.conf.{link}.proxy_ndp=1"));
            self._node.ip(&format!("addr replace fe80::ecee/64 dev {link} nodad"));
            self._node.ip(&format!("-6 route replace {own}/128 dev {link}"));
            self._node.ip(&format!("-6 neigh replace proxy {other} dev {link}"));
            netns.ip(&format!("addr replace {own}/64 dev eth0 nodad"));
            netns.ip("-6 route replace default via fe80::ecee dev eth0");
        }
    }

    /// The link to the peer takes so many octets.
    pub fn narrow(&self, mtu: u32) {
        self.peer.ip(&format!("link set eth0 mtu {mtu}"));
        self._node.ip(&format!("link set peer0 mtu {mtu}"));
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `berth` in the pod, after the words of `wrapper`.
    pub fn command(&self, wrapper: &[&str]) -> Command {
        self.command_of(wrapper, env!("CARGO_BIN_EXE_berth"))
    }

    pub fn command_of(&self, wrapper: &[&str], binary: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.pod.name]).args(wrapper).arg(binary);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(&self.env);
        command.stdin(Stdio::null());
        command
    }

    /// Starts `berth run`; its output goes to files of this start.
    pub fn start(&mut self) -> &mut Self {
        self.start_under(&[])
    }

    pub fn start_under(&mut self, wrapper: &[&str]) -> &mut Self {
        self.start_binary(wrapper, env!("CARGO_BIN_EXE_berth"), "run")
    }

    /// Another copy of the binary, another verb.
    pub fn start_binary(&mut self, wrapper: &[&str], binary: &str, verb: &str) -> &mut Self {
        assert!(self.berth.is_none(), "one at a time");
        self.starts += 1;
        let mut command = self.command_of(wrapper, binary);
        command.arg(verb).args(&self.args);
        command.stdout(File::create(self.path(&format!("serial.{}", self.starts))).unwrap());
        command.stderr(File::create(self.path(&format!("log.{}", self.starts))).unwrap());
        self.berth = Some(command.spawn().unwrap());
        self
    }

    pub fn serial(&self) -> String {
        self.read("serial")
    }

    pub fn log(&self) -> String {
        self.read("log")
    }

    fn logs(&self) -> String {
        format!("--- log\n{}\n--- serial\n{}", self.log(), self.serial())
    }

    fn read(&self, name: &str) -> String {
        let path = self.path(&format!("{name}.{}", self.starts));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// `ip netns exec` execs, so this is berth itself (or the wrapper).
    pub fn pid(&self) -> i32 {
        i32::try_from(self.berth.as_ref().expect("berth runs").id()).unwrap()
    }

    /// The pid of the berth below a wrapper, or of berth.
    pub fn signal(&self, signal: &str) {
        checked(Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]));
    }

    /// Waits until `what` holds; tells the logs when it does not in time.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        find(what, limit, || self.logs(), || holds(self))
    }

    /// Waits until the guest has booted and serves.
    pub fn ready(&mut self) -> &mut Self {
        let end = Instant::now() + BOOT;
        loop {
            if self.serial().contains(" ready") {
                return self;
            }
            let ended = self.berth.as_mut().and_then(|berth| berth.try_wait().unwrap());
            assert!(
                ended.is_none() && Instant::now() < end,
                "the guest is not ready (berth: {ended:?})\n{}\n{}",
                self.threads(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What berth and QEMU do at the moment, thread by thread: a guest that says nothing computes, waits for
    /// something, or is kept from the processor.
    fn threads(&self) -> String {
        let before = threads_below(self.pid());
        std::thread::sleep(Duration::from_secs(1));
        let line = |(id, now): (String, Thread)| {
            let ticks = before.get(&id).map(|then| now.ticks.saturating_sub(then.ticks));
            format!(
                "{id} {} {}: ticks in a second {ticks:?}, in {}\n",
                now.name, now.state, now.place
            )
        };
        threads_below(self.pid()).into_iter().map(line).collect()
    }

    /// Whether berth runs.
    pub fn is_running(&mut self) -> bool {
        self.berth.as_mut().is_some_and(|berth| berth.try_wait().unwrap().is_none())
    }

    /// It has ended.
    pub fn forget(&mut self) {
        self.berth = None;
    }

    /// Waits for berth's own end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut berth = self.berth.take().expect("berth runs");
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = berth.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= end {
                let _ = berth.kill();
                let _ = berth.wait();
                panic!("berth did not end in {limit:?}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait(Duration::from_secs(40)).code()
    }

    /// SIGKILL, as a crash or the OOM killer does it.
    pub fn kill(&mut self) {
        let mut berth = self.berth.take().expect("berth runs");
        berth.kill().unwrap();
        berth.wait().unwrap();
    }

    /// One TCP exchange from a namespace: connects, sends, half-closes, reads to the end.
    pub fn tcp(netns: &Netns, to: &str, port: u16, send: &[u8]) -> std::io::Result<Vec<u8>> {
        let (to, send) = (SocketAddr::new(to.parse::<IpAddr>().unwrap(), port), send.to_vec());
        netns.within(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut writer = stream.try_clone()?;
            let sender = std::thread::spawn(move || {
                let sent = writer.write_all(&send);
                let _ = writer.shutdown(std::net::Shutdown::Write);
                sent
            });
            let mut got = Vec::new();
            stream.read_to_end(&mut got)?;
            sender.join().expect("the sender")?;
            Ok(got)
        })
    }

    /// One UDP exchange; None when nothing comes back in two seconds, three times.
    pub fn udp(netns: &Netns, to: &str, port: u16, send: &[u8]) -> Option<Vec<u8>> {
        let (to, send) = (SocketAddr::new(to.parse::<IpAddr>().unwrap(), port), send.to_vec());
        netns.within(move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect(to).unwrap();
            let mut buffer = [0; 8192];
            (0..3).find_map(|_| {
                socket.send(&send).ok()?;
                socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
            })
        })
    }

    /// Runs a command line in the guest and returns what it prints.
    pub fn guest(&self, line: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let got =
                Self::tcp(&self.peer, self.address, 2323, format!("{line}\nexit\n").as_bytes());
            match got {
                Ok(bytes) => return String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => assert!(Instant::now() < end, "guest shell: {error}\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Tells the guest's shell something it will not live to answer.
    pub fn tell_guest(&self, line: &str) {
        let line = format!("{line}\n");
        self.peer.within(move || {
            let to: SocketAddr = (POD.parse::<IpAddr>().unwrap(), 2323).into();
            TcpStream::connect_timeout(&to, Duration::from_secs(5))
                .unwrap()
                .write_all(line.as_bytes())
                .unwrap();
        });
    }

    /// The rules without counters, the links without what counts up: what two starts must agree on.
    pub fn state(&self) -> String {
        let rules = self.pod.run("nft -s list ruleset");
        let mut links: serde_json::Value =
            serde_json::from_str(&self.pod.ip("-j -d addr show")).unwrap();
        for link in links.as_array_mut().unwrap() {
            for volatile in ["ifindex", "operstate", "flags", "linkinfo", "link_index", "link"] {
                link.as_object_mut().unwrap().remove(volatile);
            }
            // For its first second an IPv6 address of the kernel's is tentative (RFC 4862 §5.4).
            for address in link["addr_info"].as_array_mut().into_iter().flatten() {
                address.as_object_mut().unwrap().remove("tentative");
            }
            // A tap's own address is random; the guest's and the bridge's are not.
            if link["ifname"] == "tap0" {
                link.as_object_mut().unwrap().remove("address");
            }
        }
        format!("{rules}\n{links:#}")
    }

    /// The tiny guest's data partition: whether it was left clean, and the boots counter in it.
    pub fn data_partition(&self) -> (bool, String) {
        let (clean, data) = self.partition(1);
        let boots = checked(Command::new("debugfs").args(["-R", "cat boots"]).arg(&data));
        (clean, boots.trim().to_owned())
    }

    /// The ext4 partition at `index` of the VM's disk, copied into a file, its journal replayed and all of it
    /// found whole: whether the journal was clean before, and the file.
    pub fn partition(&self, index: usize) -> (bool, PathBuf) {
        self.partition_of(&self.path("image/demo.qcow2"), index)
    }

    /// The same of another image.
    pub fn partition_of(&self, disk: &Path, index: usize) -> (bool, PathBuf) {
        let raw = self.path("disk.raw");
        checked(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk).arg(&raw));
        let table: serde_json::Value =
            serde_json::from_str(&checked(Command::new("sfdisk").arg("-J").arg(&raw))).unwrap();
        let part = &table["partitiontable"]["partitions"][index];
        let (start, size) =
            (part["start"].as_u64().unwrap() * 512, part["size"].as_u64().unwrap() * 512);
        let file = self.path("partition.raw");
        checked(
            Command::new("dd")
                .args(["bs=1M", "status=none", "iflag=skip_bytes,count_bytes", "conv=sparse"])
                .args([format!("if={}", raw.display()), format!("of={}", file.display())])
                .args([format!("skip={start}"), format!("count={size}")]),
        );
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(size).unwrap();
        let header = checked(Command::new("dumpe2fs").arg("-h").arg(&file));
        let clean = !header.contains("needs_recovery");
        // Replays the journal when there is something in it, then looks at everything.
        let fsck = Command::new("e2fsck").args(["-p", "-f"]).arg(&file).output().unwrap();
        assert!(
            matches!(fsck.status.code(), Some(0 | 1)),
            "{}",
            String::from_utf8_lossy(&fsck.stdout)
        );
        let again = Command::new("e2fsck").args(["-n", "-f"]).arg(&file).output().unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        (clean, file)
    }
}

struct Thread {
    name: String,
    state: String,
    ticks: u64,
    /// Where in the kernel it waits.
    place: String,
}

/// Those of a process and of its children, by their ids (proc(5)).
fn threads_below(pid: i32) -> BTreeMap<String, Thread> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let (stat, place) = (read("stat"), read("wchan"));
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let name = name.split_once('(').map_or(name, |(_, name)| name).to_owned();
        let thread = Thread { name, state: fields[0].to_owned(), ticks, place };
        threads.insert(entry.file_name().to_string_lossy().into_owned(), thread);
        for child in read("children").split_whitespace() {
            threads.append(&mut threads_below(child.parse().unwrap()));
        }
    }
    threads
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut berth) = self.berth.take() {
            let _ = berth.kill();
            let _ = berth.wait();
        }
    }
}

/// A tmpfs of its own size over a directory of the world; gone with this.
pub struct Volume(String);

impl Volume {
    pub fn new(world: &World, name: &str, size: &str) -> Self {
        let path = world.path(name).display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &path]);
        Self(path)
    }

    pub fn resize(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}"), &self.0]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}
