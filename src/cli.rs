//! Words to Command.
