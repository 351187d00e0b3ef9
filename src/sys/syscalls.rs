//! Filters of system calls (seccomp(2)), for the calling thread and all that it starts.

use std::collections::BTreeMap;
use std::io;

pub use seccompiler::BpfProgram as Filter;
use seccompiler::{
    Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

/// Calls of the x32 interface have this bit (`__X32_SYSCALL_BIT`).
const X32: Option<u32> = if cfg!(target_arch = "x86_64") { Some(0x4000_0000) } else { None };

/// A system call that is refused, or only with certain arguments, which are counted from 0. What is listed of one call with
/// several arguments refuses it by any of them. Of an argument the lower half is looked at: where the kernel takes 32 bits,
/// the upper half may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Always(i64),
    /// When one of these bits is in this argument.
    WithBits(i64, u8, u32),
    /// When this argument is one of these.
    With(i64, u8, &'static [u32]),
    /// When this argument is none of these.
    Unless(i64, u8, &'static [u32]),
    /// As if the kernel had no such call: ENOSYS.
    Missing(i64),
}

impl Refused {
    /// One of the rules has to hold, of each all conditions. None for what does not depend on arguments.
    fn rules(self) -> Result<Option<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
        let one = |argument, op, value: u32| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, u64::from(value))
        };
        let alone = |condition: SeccompCondition| SeccompRule::new(vec![condition]);
        let (call, rules) = match self {
            Self::Always(_) | Self::Missing(_) => return Ok(None),
            Self::WithBits(call, argument, bits) => {
                let set = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bits & bit != 0);
                let is_set =
                    |bit: u32| alone(one(argument, SeccompCmpOp::MaskedEq(u64::from(bit)), bit)?);
                (call, set.map(is_set).collect::<Result<_, _>>()?)
            }
            Self::With(call, argument, refused) => {
                let is = |value: &u32| alone(one(argument, SeccompCmpOp::Eq, *value)?);
                (call, refused.iter().map(is).collect::<Result<_, _>>()?)
            }
            Self::Unless(call, argument, allowed) => {
                let others = allowed.iter().map(|value| one(argument, SeccompCmpOp::Ne, *value));
                (call, vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?])
            }
        };
        Ok(Some((call, rules)))
    }
}

/// The program that answers these calls with EPERM, and lets all others pass, but those of x32. Calls of another
/// architecture (32 bits) end the process.
///
/// Kept short: for each filter the kernel tries the whole of it with every call there is (`seccomp_cache_prepare`).
pub fn filter(refused: &[Refused]) -> io::Result<Filter> {
    let build = || -> Result<Filter, seccompiler::BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for refused in refused {
            if let Some((call, more)) = refused.rules()? {
                rules.entry(call).or_default().extend(more);
            }
        }
        let error = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, error, std::env::consts::ARCH.try_into()?)?
            .try_into()
    };
    Ok(before(refused)?.into_iter().chain(build().map_err(io::Error::other)?).collect())
}

/// What stands before the rules, which end with the first that holds, and decides by the number alone: calls of x32, those
/// that are refused whatever their arguments are, and those that are missing. One comparison each:
///
/// ```text
///     load number
///     number >= x32    ──┐
///     number == call   ──┤
///     …                  │
///     skip one           │
///     answer EPERM     <─┘
/// ```
fn before(refused: &[Refused]) -> io::Result<Filter> {
    let number = |call: i64| u32::try_from(call).map_err(io::Error::other);
    let (mut always, mut missing) = (Vec::new(), Vec::new());
    for refused in refused {
        match refused {
            Refused::Always(call) => always.push((libc::BPF_JEQ, number(*call)?)),
            Refused::Missing(call) => missing.push(number(*call)?),
            _ => {}
        }
    }
    let refused: Vec<(u32, u32)> =
        X32.into_iter().map(|bit| (libc::BPF_JGE, bit)).chain(always).collect();
    let statement =
        |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf: 0, k };
    let answer = |errno: i32| {
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
    };
    // The number is at the beginning of `struct seccomp_data`.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (at, (comparison, k)) in refused.iter().enumerate() {
        // Over what is left of the comparisons, and over the skip.
        let jt = u8::try_from(refused.len() - at).map_err(io::Error::other)?;
        filter.push(sock_filter { jt, ..statement(libc::BPF_JMP | comparison | libc::BPF_K, *k) });
    }
    filter.extend([statement(libc::BPF_JMP | libc::BPF_JA, 1), answer(libc::EPERM)]);
    for call in missing {
        filter.push(sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call)
        });
        filter.push(answer(libc::ENOSYS));
    }
    Ok(filter)
}

/// Binds the calling thread, and all it starts from now on. System calls only: a child may do it before its exec.
pub(crate) fn restrict(filter: &Filter) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(cause)
}

/// Binds all threads, as long as none has another filter than the others.
pub(crate) fn restrict_all(filter: &Filter) -> io::Result<()> {
    seccompiler::apply_filter_all_threads(filter).map_err(cause)
}

fn cause(error: Error) -> io::Error {
    match error {
        Error::Prctl(error) | Error::Seccomp(error) => error,
        _ => io::Error::from_raw_os_error(libc::EINVAL),
    }
}
