//! Every way to end: one table of exit codes.
