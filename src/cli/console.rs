//! The words of `berth console`.

use std::path::PathBuf;

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  berth console                 type, and see what it says; Ctrl-] leaves
  berth console --read-only     look on; Ctrl-] or Ctrl-C leaves
  berth console --log           what it said last, and end

In Kubernetes: kubectl exec -it POD -c CONTAINER -- berth console

Up to 16 sessions share the console, and all may type: it has one keyboard. Ctrl-] leaves wherever it comes, in the
middle of a paste too; two of them are one for the guest. A session that is too slow loses output, with a mark.
Where stdin is no terminal, what it says is typed, Ctrl-] as well; its end ends nothing: the output goes on until the
guest ends, or a signal. So `printf 'ls\\n' | timeout 5 berth console` shows what came of it, and
`berth console </dev/null` follows.";

/// Who is attached to the guest, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct Console {
    /// The launcher's state directory [default: /run/berth]
    #[arg(long, env = "BERTH_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Look on: nothing that is typed reaches the guest
    #[arg(long)]
    pub read_only: bool,
    /// Without what the guest wrote before (the last 64 KiB, from a line's beginning on)
    #[arg(long)]
    pub no_replay: bool,
    /// Print what the guest wrote before, and end
    #[arg(long, conflicts_with_all = ["read_only", "no_replay"])]
    pub log: bool,
}
