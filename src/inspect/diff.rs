//! Two listings side by side: the lines that went and came, under the table and chain they are in.

use std::io::{self, Write};

use similar::{Algorithm, ChangeTag, TextDiff};

/// Writes the lines that differ, each with its sign; nothing when there are none. `colour`: for a terminal.
pub fn write(out: &mut impl Write, before: &str, after: &str, colour: bool) -> io::Result<()> {
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).diff_lines(before, after);
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut told: Vec<&str> = Vec::new();
    for change in diff.iter_all_changes() {
        let (sign, lines, at, paint) = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => ('-', &old, change.old_index(), "\u{1b}[31m"),
            ChangeTag::Insert => ('+', &new, change.new_index(), "\u{1b}[32m"),
        };
        let line = change.value().trim_end_matches('\n');
        if line.trim().is_empty() {
            continue;
        }
        let around = around(lines, at.unwrap_or(0));
        if around != told {
            for head in &around {
                writeln!(out, "  {head}")?;
            }
            told = around;
        }
        if colour {
            writeln!(out, "{paint}{sign} {line}\u{1b}[0m")?;
        } else {
            writeln!(out, "{sign} {line}")?;
        }
    }
    Ok(())
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
        let before = "table ip a {\n\tchain b {\n\t\taccept\n\t\tdrop\n\t}\n\n\tchain c {\n\t}\n}\n";
        let after =
            "table ip a {\n\tchain b {\n\t\taccept\n\t\tcounter\n\t}\n\n\tchain c {\n\t\tdrop\n\t}\n}\n";
        let wanted = "  table ip a {\n  \tchain b {\n- \t\tdrop\n+ \t\tcounter\n  table ip a {\n  \tchain c {\n+ \t\tdrop\n";
        assert_eq!(diff(before, after), wanted);
        assert_eq!(diff(before, before), "");
    }

    #[test]
    fn a_table_that_is_gone_is_all_minus() {
        assert_eq!(diff("table ip a {\n}\n", ""), "- table ip a {\n- }\n");
    }
}
