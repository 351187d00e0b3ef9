//! Which accelerators run the guest, and on how many processors.

use super::{Accelerator, Attempt, Error};
use crate::config::{Accel, Config};
use crate::facts::Facts;

/// KVM first where there is a device, TCG after it unless KVM is insisted on. `-cpu host` exists under KVM
/// only, so TCG gets `max` for it.
pub(super) fn attempts(config: &Config, facts: &Facts) -> Result<Vec<Attempt>, Error> {
    let cpu = config.machine.cpu.as_deref();
    let kvm = || Attempt { accelerator: Accelerator::Kvm, cpu: cpu.unwrap_or("host").to_owned() };
    let tcg_cpu = cpu.filter(|cpu| cpu.split(',').next() != Some("host")).unwrap_or("max");
    let tcg = Attempt { accelerator: Accelerator::Tcg, cpu: tcg_cpu.to_owned() };
    match config.machine.accel {
        Accel::Kvm if !facts.host.kvm => Err(Error::NoKvm),
        Accel::Kvm => Ok(vec![kvm()]),
        Accel::Auto if facts.host.kvm => Ok(vec![kvm(), tcg]),
        Accel::Auto | Accel::Tcg => Ok(vec![tcg]),
    }
}

/// A guest's processors that wait for each other's turn make its spinlocks slow.
pub(super) fn overcommitted(vcpu: u32, cpus: u32) -> Option<String> {
    (0 < cpus && cpus < vcpu).then(|| {
        format!(
            "IMG_VCPU={vcpu}, but there are {cpus} CPUs here: the guest is slower than with {cpus}"
        )
    })
}
