//! QEMU options the user gives in place of ours: `KVM_BLK_OPTS`, `KVM_RAW_BLK_OPTS`, `KVM_NET_OPTS`.
//!
//! They come as words whose placeholders the seed let a shell expand; here exactly the documented names are
//! filled in, inside each word, and nothing is run. Two things QEMU or a pod no longer have are mended:
//! `scsi=off` is dropped (gone in QEMU 9.1), and `-netdev bridge`, which needs a setuid helper, becomes our tap.

use std::path::Path;

use super::Error;
use crate::config::{Config, PLACEHOLDERS};
use crate::net::MacAddr;
use crate::plan::DiskPlan;
use crate::plan::disk::Root;

/// The user's network options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Net {
    pub words: Vec<String>,
    /// The word of `words` that our tap's descriptor is to be added to; None when QEMU makes its own device.
    pub fd_word: Option<usize>,
}

/// The root disk's options when the user gives some for this kind of root.
pub(super) fn disk(
    config: &Config,
    disk: &DiskPlan,
    mac: MacAddr,
) -> Result<Option<Vec<String>>, Error> {
    let (variable, words) = match disk.root {
        Root::Device { .. } => ("KVM_RAW_BLK_OPTS", &config.machine.raw_blk_opts),
        Root::Overlay { .. } => ("KVM_BLK_OPTS", &config.machine.blk_opts),
    };
    let Some(words) = words else { return Ok(None) };
    let values = Values { variable, config, disk, mac };
    let words = words
        .iter()
        .map(|word| Ok(without_scsi(&values.fill(word)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Some(words))
}

/// The network's options when the user gives some.
pub(super) fn net(config: &Config, disk: &DiskPlan, mac: MacAddr) -> Result<Option<Net>, Error> {
    let Some(words) = &config.machine.net_opts else {
        return Ok(None);
    };
    let values = Values { variable: "KVM_NET_OPTS", config, disk, mac };
    let mut words = words.iter().map(|word| values.fill(word)).collect::<Result<Vec<_>, _>>()?;
    let mut fd_word = None;
    let mut after_netdev = false;
    for (at, word) in words.iter_mut().enumerate() {
        if after_netdev
            && fd_word.is_none()
            && let Some(tap) = tap_for_bridge(word, config.network.bridge.as_str())
        {
            *word = tap;
            fd_word = Some(at);
        }
        after_netdev = matches!(word.as_str(), "-netdev" | "--netdev");
    }
    Ok(Some(Net { words, fd_word }))
}

/// `bridge,br=BR,id=X` as `tap,id=X`, when it means our bridge (QEMU's default is br0).
fn tap_for_bridge(word: &str, ours: &str) -> Option<String> {
    let (kind, rest) = word.split_once(',').unwrap_or((word, ""));
    if kind != "bridge" && kind != "type=bridge" {
        return None;
    }
    let mut tap = "tap".to_owned();
    let mut bridge = "br0";
    for setting in rest.split(',').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("br", name)) => bridge = name,
            Some(("helper", _)) => {}
            _ => {
                tap.push(',');
                tap.push_str(setting);
            }
        }
    }
    (bridge == ours).then_some(tap)
}

fn without_scsi(word: &str) -> String {
    word.split(',').filter(|setting| *setting != "scsi=off").collect::<Vec<_>>().join(",")
}

/// What the placeholders stand for.
struct Values<'a> {
    variable: &'static str,
    config: &'a Config,
    disk: &'a DiskPlan,
    mac: MacAddr,
}

impl Values<'_> {
    /// Replaces `$NAME` and `${NAME}`; a `$` before anything else stays.
    fn fill(&self, word: &str) -> Result<String, Error> {
        let mut filled = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            let Some((name, after)) = placeholder(after) else {
                filled.push('$');
                rest = after;
                continue;
            };
            filled.push_str(&self.value(name)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// An `$IMG_*` of ours that is not set is empty, as in a shell.
    fn value(&self, name: &str) -> Result<String, Error> {
        let network = &self.config.network;
        Ok(match name {
            "KVM_IMAGE" => root_path(&self.disk.root).to_string_lossy().into_owned(),
            "BRIDGE_IFACE" => network.bridge.to_string(),
            "NEWMAC" => self.mac.to_string(),
            "VM_IP" => network.vm.address.to_string(),
            "VM_GW" => network.gateway.to_string(),
            "HOSTNAME" => self.config.hostname.clone(),
            _ if PLACEHOLDERS.contains(&name) => {
                self.config.machine.placeholders.get(name).cloned().unwrap_or_default()
            }
            _ => {
                return Err(Error::Placeholder {
                    variable: self.variable,
                    placeholder: name.to_owned(),
                });
            }
        })
    }
}

fn root_path(root: &Root) -> &Path {
    match root {
        Root::Device { path } | Root::Overlay { path, .. } => path,
    }
}

/// The name at the beginning of what follows a `$`, and the rest.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    if let Some(braced) = text.strip_prefix('{') {
        let (name, rest) = braced.split_once('}')?;
        return is_name(name).then_some((name, rest));
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    is_name(name).then_some((name, rest))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
