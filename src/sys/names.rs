//! Names of numbers as the system's own files have them: services(5), passwd(5), group(5). Name services are not asked.

use std::collections::BTreeMap;
use std::io;

/// Where a line has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `ssh  22/tcp`
    Port,
    /// `root:x:0:…`
    Id,
}

/// Names by number; the first line that has one counts, as it does for getservbyport(3) and getpwuid(3).
pub fn read(path: &str, column: Column) -> io::Result<BTreeMap<u32, String>> {
    Ok(names(&String::from_utf8_lossy(&std::fs::read(path)?), column))
}

fn names(text: &str, column: Column) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        if let Some((number, name)) = entry(line, column) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

fn entry(line: &str, column: Column) -> Option<(u32, &str)> {
    let line = line.split('#').next()?;
    let (name, number) = match column {
        Column::Port => {
            let mut words = line.split_whitespace();
            (words.next()?, words.next()?.split_once('/')?.0)
        }
        Column::Id => {
            let mut fields = line.split(':');
            (fields.next()?, fields.nth(1)?)
        }
    };
    Some((number.parse().ok()?, name)).filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let text = "# services\nssh\t22/tcp # remote login\ndomain 53/tcp\ndomain2 53/udp nameserver\nbroken\n x y/tcp\n";
        let found = names(text, Column::Port);
        assert_eq!(found, BTreeMap::from([(22, "ssh".to_owned()), (53, "domain".to_owned())]));
        let found = names(
            "root:x:0:0:root:/root:/bin/sh\n:x:7:\nadm:x:4:a,b\ntoor:x:0:0::/:\n",
            Column::Id,
        );
        assert_eq!(found, BTreeMap::from([(0, "root".to_owned()), (4, "adm".to_owned())]));
    }
}
