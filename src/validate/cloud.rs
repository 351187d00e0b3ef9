//! cloud-init's files that stand in the values: what `berth run` would say of them at start, said before.

use super::node::{Node, Value};
use super::{Finding, Severity};
use crate::config::SeedFormat;
use crate::plan::disk::{KEYS, judged};

/// What is wrong with the files of each VM.
pub fn check(root: &Node) -> Vec<Finding> {
    let vms = root.get("vmlist").into_iter().flat_map(Node::entries);
    vms.filter_map(|vm| {
        Some((format!("vmlist.{}.cloudconfig", vm.key), vm.node.get("cloudconfig")?))
    })
    .flat_map(|(key, cloud)| files(&key, cloud))
    .collect()
}

fn files(key: &str, cloud: &Node) -> Vec<Finding> {
    let format = match text(cloud, "format") {
        Some((_, "nocloud")) => SeedFormat::NoCloud,
        _ => SeedFormat::ConfigDrive,
    };
    let finding = |name: &&str| {
        let (node, content) = text(cloud, name).filter(|(_, content)| !content.is_empty())?;
        let (severity, message) = match judged(format, name, content.as_bytes()) {
            Ok(None) => return None,
            Ok(Some(why)) => (Severity::Warning, why),
            Err(why) => (Severity::Error, why),
        };
        Some(Finding { severity, at: node.at, key: format!("{key}.{name}"), message })
    };
    KEYS.iter().filter_map(finding).collect()
}

fn text<'a>(node: &'a Node, key: &str) -> Option<(&'a Node, &'a str)> {
    let node = node.get(key)?;
    match &node.value {
        Value::Text(text) => Some((node, text)),
        _ => None,
    }
}
