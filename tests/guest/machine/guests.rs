//! Boot sectors of a few bytes that play the guest, and the disks they are on.

use std::path::{Path, PathBuf};

/// `hlt` for ever.
pub const IDLE: &[u8] = &[0xf4, 0xeb, 0xfd];
/// ICH9 PM1a_CNT (0x604): SLP_EN, S5.
pub const POWEROFF: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];
/// Keyboard controller: reset line.
pub const REBOOT: &[u8] = &[0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd];
/// PM1_EN (0x602): power button.
const ENABLE_BUTTON: &[u8] = &[0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef];
/// Polls PM1_STS (0x600) for the power button.
const AWAIT_BUTTON: &[u8] = &[0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa];

/// Writes `text` to COM1 (0x3f8), goes on with `then`.
pub fn says(text: &str, then: &[u8]) -> Vec<u8> {
    says_after(&[], text, then)
}

/// Powers itself off when the button is pressed, and says "waiting" when it would hear that.
pub fn waits_for_the_button() -> Vec<u8> {
    says_after(ENABLE_BUTTON, "waiting", &[AWAIT_BUTTON, POWEROFF].concat())
}

fn says_after(first: &[u8], text: &str, then: &[u8]) -> Vec<u8> {
    // xor ax,ax; mov ds,ax; mov si,TEXT; next: lodsb; test al,al; jz then; mov dx,0x3f8; out dx,al; jmp next
    let mut code = first.to_vec();
    code.extend([
        0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0, 0, 0xac, 0x84, 0xc0, 0x74, 6, 0xba, 0xf8, 0x03, 0xee,
        0xeb, 0xf5,
    ]);
    code.extend(then);
    let at = 0x7c00 + u16::try_from(code.len()).unwrap();
    code[first.len() + 5..][..2].copy_from_slice(&at.to_le_bytes());
    code.extend(text.as_bytes());
    code.push(0);
    code
}

/// A boot disk of 1 MiB (SeaBIOS boots nothing smaller than a cylinder) with `code` in its first sector.
pub fn disk(directory: &Path, code: &[u8]) -> PathBuf {
    let mut image = vec![0; 1 << 20];
    image[..code.len()].copy_from_slice(code);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = directory.join("root.img");
    std::fs::write(&path, image).unwrap();
    path
}

/// An empty qcow2 overlay (docs/interop/qcow2.txt): header, refcount table, refcount block, L1 table. Its backing
/// file name leads nowhere: only the descriptor that is handed over does.
pub fn overlay(directory: &Path) -> PathBuf {
    const CLUSTER: usize = 65536;
    let mut image = vec![0; 4 * CLUSTER];
    let mut at =
        |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    let name = b"/nowhere/base";
    at(0, b"QFI\xfb");
    at(4, &2_u32.to_be_bytes());
    at(8, &72_u64.to_be_bytes());
    at(16, &u32::try_from(name.len()).unwrap().to_be_bytes());
    at(20, &16_u32.to_be_bytes());
    at(24, &(1_u64 << 20).to_be_bytes());
    at(36, &1_u32.to_be_bytes());
    at(40, &(3 * CLUSTER as u64).to_be_bytes());
    at(48, &(CLUSTER as u64).to_be_bytes());
    at(56, &1_u32.to_be_bytes());
    at(72, name);
    at(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        at(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    let path = directory.join("overlay.qcow2");
    std::fs::write(&path, image).unwrap();
    path
}
