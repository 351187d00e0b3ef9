//! `berth nft check`: whether our tables are what the plan says.

use std::io::{self, IsTerminal, Write};

use super::{Error, diff, written};
use crate::exit::Code;
use crate::nft::Ruleset;
use crate::nft::dump::Filter;
use crate::nft::text::Style;
use crate::sys::netlink::Firewall;

/// Prints what differs: `-` is planned and not loaded, `+` is loaded and not planned.
pub async fn run(planned: &Ruleset, out: &mut impl Write) -> Result<Code, Error> {
    let firewall = Firewall::start()?;
    let mut found = Ruleset::default();
    for table in &planned.tables {
        found
            .tables
            .extend(firewall.dump(Filter::table(table.family, &table.name)).await?.1.tables);
    }
    let (planned, found) = (planned.canonical(), found.canonical());
    if planned == found {
        return Ok(Code::Success);
    }
    let style = Style { stateless: true, ..Style::default() };
    let (planned, found) = (planned.text(&style), found.text(&style));
    let mut text = Vec::new();
    diff::write(&mut text, &planned, &found, io::stdout().is_terminal()).map_err(Error::Write)?;
    if text.is_empty() {
        // Such as the type of an element that is written alike.
        text.extend_from_slice(b"the rules differ in a detail that nft syntax cannot express\n");
    }
    written(out.write_all(&text))?;
    Ok(Code::Drifted)
}
