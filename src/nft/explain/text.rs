//! An explanation for a person's eyes: every hook and chain, a mark and a reason for every rule, the verdict last.

use std::fmt::{self, Write};

use super::{Explanation, Met, Outcome, Step, Truth};

/// An explanation with or without colours.
#[derive(Debug)]
pub struct Paint<'a> {
    /// What is printed.
    pub explanation: &'a Explanation,
    /// By escapes of a terminal.
    pub colours: bool,
}

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const FAINT: &str = "2";

impl Paint<'_> {
    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn rule(&self, f: &mut fmt::Formatter<'_>, met: &Met, base: &str) -> fmt::Result {
        let indent = "  ".repeat(met.depth);
        let (mark, colour) = match met.outcome {
            Truth::Yes => ("+", GREEN),
            Truth::No => ("-", FAINT),
            Truth::Maybe => ("?", YELLOW),
        };
        let place = if met.chain == base { String::new() } else { format!("{}: ", met.chain) };
        let handle = met.handle.map_or_else(String::new, |handle| format!(" # handle {handle}"));
        let line = format!("{mark} {place}{}", met.rule);
        writeln!(f, "  {indent}{}{}", self.paint(colour, &line), self.paint(FAINT, &handle))?;
        if let Some(why) = &met.why {
            writeln!(f, "  {indent}    {why}")?;
        }
        for effect in &met.effects {
            writeln!(f, "  {indent}    {effect}")?;
        }
        Ok(())
    }

    fn step(&self, f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
        match step {
            Step::Routing(text) => writeln!(f, "{} {text}\n", self.paint(BOLD, "routing")),
            Step::Note(text) => writeln!(f, "{text}"),
            Step::Chain { hook, family, table, chain, kind, priority, rules, result, packet } => {
                let title = format!("{hook}: {family} {table} {chain}");
                writeln!(f, "{} (type {kind}, priority {priority})", self.paint(BOLD, &title))?;
                for met in rules {
                    self.rule(f, met, chain)?;
                }
                let mut end = format!("  = {result}");
                if let Some(packet) = packet {
                    write!(end, "; now {packet}")?;
                }
                writeln!(f, "{end}\n")
            }
        }
    }
}

impl fmt::Display for Paint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { packet, assumed, steps, outcome, why, .. } = self.explanation;
        writeln!(f, "{} {packet}", self.paint(BOLD, "packet "))?;
        for text in assumed {
            writeln!(f, "        {text}")?;
        }
        writeln!(f)?;
        for step in steps {
            self.step(f, step)?;
        }
        let (word, colour) = match outcome {
            Outcome::Accepted => ("accepted", GREEN),
            Outcome::Dropped => ("dropped", RED),
            Outcome::Rejected => ("rejected", RED),
            Outcome::CannotTell => ("cannot tell", YELLOW),
        };
        writeln!(f, "{} {}: {why}", self.paint(BOLD, "verdict"), self.paint(colour, word))
    }
}
