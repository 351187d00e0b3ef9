//! Quantities as Kubernetes has them (its resource.Quantity): a number, and a suffix of SI, of powers of 1024, or an exponent.

/// How much it is, in units; near enough to compare by [`above`].
pub fn units(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => f64::powi(1024.0, 2),
        "Gi" => f64::powi(1024.0, 3),
        "Ti" => f64::powi(1024.0, 4),
        "Pi" => f64::powi(1024.0, 5),
        "Ei" => f64::powi(1024.0, 6),
        _ => f64::powi(10.0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

/// `a > b`, and by more than floats are wrong.
pub fn above(a: f64, b: f64) -> bool {
    a > b * (1.0 + 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_what_kubernetes_takes_it_for() {
        for (text, wanted) in [
            ("0", 0.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("250m", 0.25),
            ("1e9", 1e9),
            ("1E3", 1e3),
            ("1E", 1e18),
            ("1k", 1e3),
            ("64Mi", 67_108_864.0),
            ("1.5Gi", 1_610_612_736.0),
            ("100n", 1e-7),
        ] {
            let found = units(text).unwrap();
            assert!(!above(found, wanted) && !above(wanted, found), "{text}: {found}");
        }
        for text in ["", "Gi", "1K", "1e", "1.5.5", "-1", "5 Gi"] {
            assert_eq!(units(text), None, "{text}");
        }
        assert!(
            above(1.001, 1.0)
                && !above(units("100m").unwrap(), 0.1)
                && !above(0.1, units("100m").unwrap())
        );
    }
}
