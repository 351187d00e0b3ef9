//! A launcher in a pod of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::netns::Pod;
use crate::process::Running;
use crate::startup::Files;
use crate::{Error, at};

/// With all it needs; QEMU ends with berth.
pub struct Launcher {
    pub running: Running,
    pub files: Files,
    pub pod: Pod,
}

impl Launcher {
    /// Of a small guest without VNC, with these words and variables besides.
    pub fn start(berth: &Path, words: impl FnOnce(&mut Command)) -> Result<Self, Error> {
        let (files, pod) = (Files::new()?, Pod::new()?);
        let mut command = files.berth(berth);
        command.args(["--vnc", "off", "--grace", "1", "--ram-mb", "32"]).stderr(Stdio::null());
        words(&mut command);
        let running = pod.inside(|| at("starting berth", command.spawn()).map(Running))?;
        Ok(Self { running, files, pod })
    }
}
