//! The QEMU child, QMP, signals, the serial console.
