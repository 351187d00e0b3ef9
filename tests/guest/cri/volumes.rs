//! The volumes of a pod, each as a kubelet makes it on the node.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::kubelet::octets;
use crate::support::{checked, world};

/// What there is of a volume on the node.
#[derive(Debug)]
pub enum Volume {
    Path(PathBuf),
    Block(String),
}

/// A pod's volumes by name, undone when dropped.
#[derive(Debug)]
pub struct Volumes {
    pub all: BTreeMap<String, Volume>,
    mounts: Vec<PathBuf>,
    loops: Vec<String>,
}

impl Volumes {
    /// `objects`: what was rendered, ConfigMaps and claims among it. What the values only name is made up here.
    pub fn make(spec: &Value, objects: &[Value], dir: &Path) -> Self {
        let mut volumes = Self { all: BTreeMap::new(), mounts: Vec::new(), loops: Vec::new() };
        std::fs::create_dir(dir).unwrap();
        let blocks = blocks(spec);
        let group =
            spec["securityContext"]["fsGroup"].as_u64().map(|id| u32::try_from(id).unwrap());
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let name = volume["name"].as_str().unwrap().to_owned();
            let at = dir.join(&name);
            let made = if let Some(path) = volume["hostPath"]["path"].as_str() {
                Volume::Path(path.into())
            } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                if blocks.contains(&name) {
                    Volume::Block(volumes.block(&dir.join(format!("{claim}.raw")), name == "image"))
                } else {
                    Volume::Path(directory(&at))
                }
            } else {
                Volume::Path(volumes.ephemeral(volume, objects, &at))
            };
            if let (Volume::Path(path), Some(group), true) =
                (&made, group, volume["hostPath"].is_null())
            {
                own(path, group);
            }
            volumes.all.insert(name, made);
        }
        volumes
    }

    /// emptyDir, configMap, secret, downwardAPI: in memory where the kubelet has them there.
    fn ephemeral(&mut self, volume: &Value, objects: &[Value], at: &Path) -> PathBuf {
        let empty = &volume["emptyDir"];
        let path = directory(at);
        let in_memory = empty["medium"] == "Memory" || !volume["secret"].is_null();
        if in_memory {
            let size = empty["sizeLimit"]
                .as_str()
                .map_or_else(String::new, |size| format!("size={},", octets(size)));
            let options = format!("{size}mode=777");
            checked(
                Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path),
            );
            self.mounts.push(path.clone());
        }
        if let Some(name) = volume["configMap"]["name"].as_str() {
            written(&path, &contents(objects, "ConfigMap", name));
        } else if let Some(name) = volume["secret"]["secretName"].as_str() {
            written(&path, &contents(objects, "Secret", name));
        } else {
            assert!(empty.is_object(), "a kind of volume that is not known here: {volume}");
        }
        path
    }

    /// A loop device: with a system on it when it is to be the guest's disk.
    fn block(&mut self, file: &Path, system: bool) -> String {
        if system {
            checked(
                Command::new("qemu-img")
                    .args(["convert", "-O", "raw"])
                    .arg(world::tiny())
                    .arg(file),
            );
        } else {
            std::fs::File::create(file).unwrap().set_len(16 << 20).unwrap();
        }
        let device =
            checked(Command::new("losetup").args(["--find", "--show"]).arg(file)).trim().to_owned();
        self.loops.push(device.clone());
        device
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for path in &self.mounts {
            let _ = Command::new("umount").arg(path).status();
        }
        for device in &self.loops {
            let _ =
                Command::new("losetup").args(["--detach", device]).stderr(Stdio::null()).status();
        }
    }
}

/// The names of those that a container takes as a device.
fn blocks(spec: &Value) -> Vec<String> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let devices = containers
        .flat_map(|container| container["volumeDevices"].as_array().into_iter().flatten());
    devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

fn directory(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    path.to_owned()
}

/// A rendered object's data, or, of one that is the user's own, these.
fn contents(objects: &[Value], kind: &str, name: &str) -> BTreeMap<String, String> {
    let found =
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let Some(object) = found else {
        let made_up = [
            ("metadata", "instance-id: made-up\n"),
            ("userdata", "#cloud-config\n# made up\n"),
            ("networkdata", "version: 2\nethernets: {}\n"),
            ("password", "made-up"),
            ("token", "0123456789abcdef0123456789abcdef"),
        ];
        let made_up = made_up.map(|(key, value)| (key.to_owned(), value.to_owned()));
        return made_up.into_iter().chain(certificate()).collect();
    };
    let data = object["data"].as_object().into_iter().flatten();
    data.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// As cert-manager names them.
fn certificate() -> [(String, String); 2] {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, cert) = (path("tls.key"), path("tls.crt"));
    let words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut openssl = Command::new("openssl");
    openssl.args(words).args(["-subj", "/CN=made-up", "-keyout", &key, "-out", &cert]);
    checked(&mut openssl);
    ["tls.crt", "tls.key"]
        .map(|name| (name.to_owned(), std::fs::read_to_string(dir.path().join(name)).unwrap()))
}

/// As the kubelet's atomic writer has it: the files in a directory of this time, `..data` to it, and one link for each file.
fn written(path: &Path, files: &BTreeMap<String, String>) {
    let now = "..2026_01_02_03_04_05.678901234";
    directory(&path.join(now));
    symlink(now, path.join("..data")).unwrap();
    for (name, text) in files {
        let file = path.join(now).join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        symlink(format!("..data/{name}"), path.join(name)).unwrap();
    }
}

/// fsGroup: everything is the group's, which may read and write it, and so is what comes.
fn own(path: &Path, group: u32) {
    chown(path, None, Some(group)).unwrap();
    let meta = std::fs::metadata(path).unwrap();
    let more = if meta.is_dir() { 0o2770 } else { 0o660 };
    std::fs::set_permissions(path, PermissionsExt::from_mode(meta.permissions().mode() | more))
        .unwrap();
    if !meta.is_dir() {
        return;
    }
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_symlink() {
            own(&entry.path(), group);
        }
    }
}
