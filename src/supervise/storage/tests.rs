use serde_json::json;

use super::*;

fn disk() -> Disk {
    Disk {
        device: "disk0".to_owned(),
        name: "root".to_owned(),
        path: "/image/vm.qcow2".into(),
        is_raw: false,
        scratch_dir: "/image".into(),
    }
}

/// As QEMU 7.2 has it.
fn block(bitmaps: &Value) -> Value {
    json!([{"device": "seed0"}, {
        "device": "disk0", "qdev": "/machine/peripheral/virtio-disk0/virtio-backend",
        "inserted": {"node-name": "#block155", "drv": "qcow2", "image": {"virtual-size": 4096}, "dirty-bitmaps": bitmaps},
    }])
}

#[test]
fn a_disk_is_found_in_what_qemu_says() {
    let found = found(&disk(), &block(&json!([]))).unwrap();
    assert_eq!((found.node.as_str(), found.size_bytes), ("#block155", 4096));
    assert!(found.keeps_bitmaps && found.qdev.ends_with("virtio-backend"));
    assert!(super::found(&disk(), &json!([{"device": "disk0"}])).is_none());
    assert!(super::found(&disk(), &json!({})).is_none());
}

#[test]
fn an_increment_stands_on_the_last_bitmap_that_is_whole_and_has_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let last = |bitmaps: &Value| found(&disk(), &block(bitmaps)).unwrap().last("vm", dir.path());
    let bitmap = |stamp: &str, more: &str| {
        let mut bitmap = json!({"name": format!("berth-{stamp}"), "recording": true});
        if !more.is_empty() {
            bitmap[more] = true.into();
        }
        bitmap
    };
    let (first, second) = ("20240301T000000Z", "20240302T000000Z");
    assert!(last(&json!([])).unwrap_err().contains("no bitmap of a backup"));
    assert!(last(&json!([{"name": "theirs", "recording": true}])).is_err());
    assert!(last(&json!([bitmap(first, "")])).unwrap_err().contains("is not in"));
    std::fs::write(dir.path().join(format!("vm-{first}.qcow2")), "").unwrap();
    assert_eq!(last(&json!([bitmap(first, "")])).unwrap(), first);
    assert!(last(&json!([bitmap(first, "inconsistent")])).unwrap_err().contains("not consistent"));
    let both = json!([bitmap(second, ""), bitmap(first, "")]);
    assert_eq!(last(&both).unwrap(), first, "the older one has all since");
}
