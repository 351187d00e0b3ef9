//! `berth nft list`.

use std::io::Write;

use super::{Error, written};
use crate::cli::nft::List;
use crate::exit::Code;
use crate::nft::dump::Filter;
use crate::sys::netlink::Firewall;

pub async fn run(_wanted: &List, out: &mut impl Write) -> Result<Code, Error> {
    let firewall = Firewall::start()?;
    let (_, ruleset) = firewall.dump(Filter::default()).await?;
    written(write!(out, "{ruleset}"))?;
    Ok(Code::Success)
}
