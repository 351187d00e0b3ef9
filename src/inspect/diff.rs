//! Two listings side by side: the lines that went and came, under the table and chain they are in.

use std::io::{self, Write};

use similar::algorithms::{Capture, Compact, IdentifyDistinct, Replace, myers};
use similar::{DiffOp, DiffTag};

/// Writes the lines that differ, each with its sign; nothing when there are none. `colour`: for a terminal.
pub fn write(out: &mut impl Write, before: &str, after: &str, colour: bool) -> io::Result<()> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut printed: Vec<&str> = Vec::new();
    for op in changes(&old, &new) {
        let sides =
            [('-', "\u{1b}[31m", &old, op.old_range()), ('+', "\u{1b}[32m", &new, op.new_range())];
        for (sign, paint, lines, range) in sides {
            for (at, line) in lines.iter().enumerate().skip(range.start).take(range.len()) {
                if line.trim().is_empty() {
                    continue;
                }
                let around = around(lines, at);
                if around != printed {
                    for head in &around {
                        writeln!(out, "  {head}")?;
                    }
                    printed = around;
                }
                if colour {
                    writeln!(out, "{paint}{sign} {line}\u{1b}[0m")?;
                } else {
                    writeln!(out, "{sign} {line}")?;
                }
            }
        }
    }
    Ok(())
}

/// What is not the same in both. One algorithm on numbers for lines: `TextDiff` brings all it has, for texts.
fn changes(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let ids = IdentifyDistinct::<u32>::new(old, 0..old.len(), new, 0..new.len());
    let (old, new) = (ids.old_lookup(), ids.new_lookup());
    let mut found = Compact::new(Replace::new(Capture::new()), old, new);
    let Ok(()) = myers::diff(&mut found, old, ids.old_range(), new, ids.new_range());
    let ops = found.into_inner().into_inner().into_ops();
    ops.into_iter().filter(|op| op.tag() != DiffTag::Equal).collect()
}

/// The lines that open what the line is in: its table, and its chain, set or object.
fn around<'a>(lines: &[&'a str], at: usize) -> Vec<&'a str> {
    let depth = |line: &str| line.bytes().take_while(|byte| *byte == b'\t').count();
    let Some(line) = lines.get(at) else { return Vec::new() };
    let mut level = depth(line);
    let mut heads = Vec::new();
    for head in lines.iter().take(at).rev() {
        if head.ends_with('{') && depth(head) < level {
            heads.push(*head);
            level = depth(head);
        }
    }
    heads.reverse();
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(before: &str, after: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, before, after, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn changed_lines_stand_under_what_they_are_in() {
        let before =
            "table ip a {\n\tchain b {\n\t\taccept\n\t\tdrop\n\t}\n\n\tchain c {\n\t}\n}\n";
        let after = "table ip a {\n\tchain b {\n\t\taccept\n\t\tcounter\n\t}\n\n\tchain c {\n\t\tdrop\n\t}\n}\n";
        let wanted = "  table ip a {\n  \tchain b {\n- \t\tdrop\n+ \t\tcounter\n  table ip a {\n  \tchain c {\n+ \t\tdrop\n";
        assert_eq!(diff(before, after), wanted);
        assert_eq!(diff(before, before), "");
    }

    #[test]
    fn a_table_that_is_gone_is_all_minus() {
        assert_eq!(diff("table ip a {\n}\n", ""), "- table ip a {\n- }\n");
    }
}
