//! The pods of what Helm's engine rendered, and what has to be otherwise here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::containerd::NODE;
use super::volumes::Volumes;
use crate::support::checked;

/// A pod's spec with its volumes on the node.
pub struct Spec {
    pub name: String,
    pub uid: String,
    pub labels: Value,
    pub annotations: Value,
    pub spec: Value,
    pub volumes: Volumes,
    /// The pod's own directory on the node.
    pub dir: PathBuf,
}

impl Spec {
    /// Of a Deployment, or of a Pod. `dir`: the test's.
    pub fn of(object: &Value, objects: &[Value], dir: &Path) -> Self {
        let template = if object["kind"] == "Pod" { object } else { &object["spec"]["template"] };
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut spec = template["spec"].clone();
        here(&mut spec, &dir.join("www"));
        let uid = format!("{name}-uid");
        let dir = tempfile::Builder::new().prefix(&name).tempdir_in(dir).unwrap().keep();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        let volumes = Volumes::make(&spec, objects, &dir.join("volumes"));
        let metadata = &template["metadata"];
        let (labels, annotations) = (metadata["labels"].clone(), metadata["annotations"].clone());
        Self { name, uid, labels, annotations, spec, volumes, dir }
    }

    /// One with nothing in it.
    pub fn empty(name: &str, dir: &Path) -> Self {
        Self::of(&json!({"kind": "Pod", "metadata": {"name": name}, "spec": {}}), &[], dir)
    }

    /// What the guest is called: as its meta-data says, else as the pod.
    pub fn host_name(&self) -> String {
        let volumes = std::fs::read_dir(self.dir.join("volumes")).unwrap();
        let metadata = volumes.filter_map(|volume| {
            std::fs::read_to_string(volume.unwrap().path().join("metadata")).ok()
        });
        let named = metadata.into_iter().find_map(|text| {
            let said = text.split_once("hostname\":").or_else(|| text.split_once("hostname:"))?.1;
            let name = said.trim_start_matches(['"', ' ']).split(['"', '\n', ' ', ',']).next()?;
            Some(name.to_owned())
        });
        named.unwrap_or_else(|| self.spec["hostname"].as_str().unwrap().to_owned())
    }

    /// Relative to each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{}/pod{}", cgroups(), self.uid)
    }

    /// In the order of their start.
    pub fn containers(&self) -> Vec<Value> {
        let of = |key: &str| self.spec[key].as_array().cloned().unwrap_or_default();
        [of("initContainers"), of("containers")].concat()
    }

    pub fn container(&self, name: &str) -> Value {
        self.containers().into_iter().find(|container| container["name"] == name).unwrap()
    }

    /// The name of the container with the guest.
    pub fn guest(&self) -> String {
        self.spec["containers"][0]["name"].as_str().unwrap().to_owned()
    }
}

/// Of all pods of this test.
pub fn cgroups() -> String {
    format!("/berth-cri-{}", std::process::id())
}

/// All that is not as it was rendered:
///
/// - guests are emulated: `BERTH_ACCEL`, no `BERTH_CPU` (KVM's models), and no plugin gives `/dev/kvm`,
/// - images are the tiny guest by the same name, from the node: `IMG_SOURCE`, and the `IMG_SHA256` of it,
/// - an image that a launcher image of somebody's has in it is mounted,
/// - the launcher image is on the node: nothing is pulled, whatever `imagePullPolicy` is.
fn here(spec: &mut Value, www: &Path) {
    let mut base = None;
    for key in ["initContainers", "containers"] {
        for container in spec[key].as_array_mut().into_iter().flatten() {
            let Some(variables) = container["env"].as_array_mut() else { continue };
            variables.retain(|variable| variable["name"] != "BERTH_CPU");
            let source = variables.iter().find(|variable| variable["name"] == "IMG_SOURCE");
            let file = source
                .map(|source| served(www, source["value"].as_str().unwrap()))
                .unwrap_or_default();
            for variable in variables {
                let value = match variable["name"].as_str().unwrap() {
                    "BERTH_ACCEL" => "tcg".to_owned(),
                    "IMG_SOURCE" => format!("http://{NODE}:8000/{file}"),
                    "IMG_SHA256" => format!("sha256:{}", sha256(&www.join(&file))),
                    "IMG_TARGET" => {
                        let path = variable["value"].as_str().unwrap().to_owned();
                        base = path.starts_with('/').then_some(path.clone()).or(base);
                        path
                    }
                    _ => continue,
                };
                variable["value"] = value.into();
            }
        }
    }
    if let Some(path) = base {
        let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "of-the-image", "mountPath": path, "readOnly": true}));
        let volume = json!({"name": "of-the-image", "hostPath": {"path": www.join("tiny.qcow2")}});
        spec["volumes"].as_array_mut().unwrap().push(volume);
    }
}

/// The guest's image by the name that it has in the URL, and compressed if that is.
fn served(www: &Path, url: &str) -> String {
    let name = url.rsplit('/').next().unwrap().to_owned();
    let file = www.join(&name);
    if name.ends_with(".raw.zst") && !file.exists() {
        let raw = www.join("tiny.raw");
        checked(
            Command::new("qemu-img")
                .args(["convert", "-O", "raw"])
                .arg(www.join("tiny.qcow2"))
                .arg(&raw),
        );
        let raw = std::fs::File::open(raw).unwrap();
        std::fs::write(file, compress_to_vec(raw, CompressionLevel::Fastest)).unwrap();
    } else if !file.exists() {
        std::fs::hard_link(www.join("tiny.qcow2"), file).unwrap();
    }
    name
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}
