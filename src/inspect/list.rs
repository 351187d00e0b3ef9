//! `berth nft list`.

use std::io::Write;

use super::{Error, written};
use crate::cli::nft::List;
use crate::exit::Code;
use crate::nft::dump::Filter;
use crate::nft::text::Style;
use crate::sys::link::Links;
use crate::sys::netlink::Firewall;

pub async fn run(wanted: &List, out: &mut impl Write) -> Result<Code, Error> {
    let firewall = Firewall::start()?;
    let (_, ruleset) = firewall.dump(Filter::default()).await?;
    let style = Style {
        handles: wanted.handle,
        numeric: wanted.numeric,
        stateless: wanted.stateless,
        interfaces: Links::open()?.names().await?,
        ..Style::default()
    };
    written(out.write_all(ruleset.text(&style).as_bytes()))?;
    Ok(Code::Success)
}
