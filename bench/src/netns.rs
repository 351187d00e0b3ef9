//! Network namespaces that look like pods: made for one measurement, gone when dropped.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, at};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A pod: one interface `eth0` with `10.99.0.2/24`, a gateway and an MTU of 1450.
#[derive(Debug)]
pub struct Pod {
    name: String,
}

impl Pod {
    pub fn new() -> Result<Self, Error> {
        let name = format!("bb{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let pod = Self { name };
        ip(&["netns", "add", &pod.name])?;
        for words in [
            "link set lo up",
            "link add eth0 mtu 1450 type veth peer name out",
            "addr add 10.99.0.2/24 dev eth0",
            "link set eth0 up",
            "link set out up",
            "route add default via 10.99.0.1",
        ] {
            let mut args = vec!["-n", pod.name.as_str()];
            args.extend(words.split(' '));
            ip(&args)?;
        }
        Ok(pod)
    }

    /// Runs `work` in a thread inside the namespace; processes it starts are inside too.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = at(format!("opening {path}"), File::open(&path))?;
                at(
                    format!("entering {path}"),
                    move_into_link_name_space(
                        std::os::fd::AsFd::as_fd(&file),
                        Some(LinkNameSpaceType::Network),
                    )
                    .map_err(Into::into),
                )?;
                work()
            });
            thread.join().unwrap_or_else(|_| Err(Error::Step("the measuring thread stopped".into())))
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<(), Error> {
    let step = format!("ip {}", args.join(" "));
    let output = at(&step, Command::new("ip").args(args).stdin(Stdio::null()).output())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Error::Step(format!("{step}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}
