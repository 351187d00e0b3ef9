//! What makes it ready: each sign with a guest that gives it, and one that does not.

use std::io::Read;

use super::*;

/// Exit code and output of `berth status`.
fn status(world: &World) -> (i32, String) {
    let output = world.command(&[]).arg("status").output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn until_status(world: &World, text: &str) -> i32 {
    world.until(&format!("status {text:?}"), BOOT, |world| {
        let (code, told) = status(world);
        told.contains(text).then_some(code)
    })
}

/// An empty disk runs in its firmware for ever: QEMU runs, and nobody could use it.
#[test]
fn an_empty_disk_is_not_ready_and_is_alive() {
    let mut world = World::new();
    let empty = world.path("empty.qcow2");
    checked(Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&empty).arg("1M"));
    world.set("IMG_TARGET", &empty.display().to_string()).start();
    let because = "because  the guest has not taken its address by DHCP";
    assert_eq!(until_status(&world, because), 1);
    until_status(&world, "guest    running");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status(&world).0, 1, "it stays so");
    let alive = world.command(&[]).args(["status", "--alive"]).output().unwrap();
    assert!(alive.status.success());
    let now = fresh(&world);
    assert_eq!(of(&now, "berth_ready{verb=\"run\"}"), 0.0);
    assert!(!now.contains_key("berth_guest_lease_time_seconds"));
    world.set("BERTH_GRACE_S", "1");
    world.kill();
    // Who says so has it as it was.
    world.set("BERTH_READY", "running").start();
    assert_eq!(until_status(&world, ": ready"), 0);
    world.kill();
}

#[test]
fn a_guest_shows_its_address_a_port_or_a_word() {
    for (sign, because) in [
        ("dhcp", "because  the guest has not taken its address by DHCP"),
        ("tcp:8080", "because  the guest takes no connection at TCP port 8080"),
        ("serial:^guest: [0-9.]+ ready$", "because  the guest has not written what BERTH_READY"),
    ] {
        let mut world = World::new();
        world.set("BERTH_READY", sign).start();
        assert_eq!(until_status(&world, because), 1, "{sign}");
        assert_eq!(until_status(&world, ": ready\n"), 0, "{sign}");
        world.ready();
        // Another boot inside the same QEMU is no other machine.
        assert_eq!(status(&world).0, 0);
        world.stop();
    }
}

#[test]
fn a_guest_that_powers_off_and_is_run_again_has_to_show_it_again() {
    let mut world = World::new();
    world.set("BERTH_ON_POWEROFF", "restart").start().ready();
    assert_eq!(status(&world).0, 0);
    let before = fresh(&world);
    world.tell_guest("poweroff -f");
    let because = "because  the guest has not taken its address by DHCP";
    assert_eq!(until_status(&world, because), 1);
    assert_eq!(until_status(&world, ": ready\n"), 0);
    let after = fresh(&world);
    assert_eq!(of(&after, "berth_guest_starts_total"), 2.0);
    let started = "berth_guest_start_time_seconds";
    assert!(of(&after, started) > of(&before, started));
    world.stop();
}

#[test]
fn an_image_that_is_fetched_is_told_and_no_start_of_a_guest_is() {
    let mut world = World::new();
    let listener = world.peer.within(|| std::net::TcpListener::bind((PEER, 80)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let mut sector = [0; 512];
                sector[510..].copy_from_slice(&[0x55, 0xaa]);
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n";
                let _ = stream.write_all(&[&head[..], &sector, &[0; 65024]].concat());
                // The rest never comes.
                let _ = stream.read(&mut [0; 1]);
            });
        }
    });
    let source = format!("http://{PEER}/new.img");
    world.set("IMG_SOURCE", &source).set("IMG_TARGET", "new.img").start();
    let json = world.until("a download", SOON, |world| {
        let output = world.command(&[]).args(["status", "--output", "json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        json["fetch"]["bytes"].is_u64().then_some(json)
    });
    assert_eq!(json["guest"]["started_ms"], serde_json::Value::Null, "{json}");
    assert_eq!(until_status(&world, "\nfetching "), 1);
    assert_eq!(world.stop(), Some(20));
}
