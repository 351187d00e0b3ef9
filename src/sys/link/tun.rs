//! The tap over its character device (linux/if_tun.h, Documentation/networking/tuntap.rst).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::thread::CapabilitySet;

use super::error::TUN;
use super::{Error, Tap};
use crate::net::IfName;
use crate::sys::{ffi, privilege};

/// Opens the descriptors QEMU is handed, one per queue. They are closed on exec unless duplicated for it.
pub fn open_tap(name: &IfName, queues: u16) -> Result<Vec<OwnedFd>, Error> {
    (0..queues.max(1)).map(|_| attach(name, queues).map(OwnedFd::from)).collect()
}

/// Whether [`open_tap`] will do, as far as it can be seen while a QEMU that was killed may still hold the queues.
pub fn try_tap(name: &IfName, queues: u16) -> Result<(), Error> {
    match open_tap(name, queues) {
        Err(Error::Tap { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        tried => tried.map(drop),
    }
}

pub(super) fn make_tap(wanted: &Tap<'_>) -> Result<(), Error> {
    let tun = attach(wanted.name, wanted.queues)?;
    let step = |step| move |source| Error::Tap { link: wanted.name.clone(), step, source };
    ffi::tun_set_owner(&tun, wanted.owner).map_err(step("setting its owner"))?;
    ffi::tun_set_persist(&tun).map_err(step("making it persistent"))
}

/// One queue: Ethernet frames with a virtio-net header, so that offloads reach the guest.
fn attach(name: &IfName, queues: u16) -> Result<File, Error> {
    let multi = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | multi;
    let tun = open_tun(true)?;
    let step = ffi::tun_set_iff(&tun, name.as_str(), u16::try_from(flags).unwrap_or(0));
    step.map_err(|source| Error::Tap { link: name.clone(), step: "attaching", source })?;
    Ok(tun)
}

/// Whether the device is there, or can be made, and is what it is to be. Makes nothing.
pub fn try_tun() -> Result<(), Error> {
    match open_tun(false) {
        Err(Error::NoTun(error))
            if error.kind() == io::ErrorKind::NotFound && privilege::has(CapabilitySet::MKNOD) =>
        {
            Ok(())
        }
        opened => opened.map(drop),
    }
}

fn open_tun(make: bool) -> Result<File, Error> {
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(TUN);
    let opened = match open() {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            make_tun().and_then(|()| open())
        }
        opened => opened,
    };
    let tun = opened.map_err(Error::NoTun)?;
    ffi::tun_features(&tun).map_err(Error::NotTun)?;
    Ok(tun)
}

/// The node a container without the device may make itself if it has CAP_MKNOD (misc major 10, minor 200).
fn make_tun() -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    std::fs::create_dir_all("/dev/net")?;
    mknodat(CWD, TUN, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(10, 200))?;
    Ok(())
}
