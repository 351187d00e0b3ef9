//! Make kernel and disks match the plan.
