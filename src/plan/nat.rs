//! The NAT: one nf_tables table that maps the pod's address onto the guest.
