//! Words without quotes, as Helm's parser (go-yaml) resolves them.

use super::node::Value;

/// A key without quotes may be a number or a truth to Helm, and is written as such then.
pub fn resolved(text: &str) -> Option<String> {
    match plain_scalar(text) {
        Value::Null => None,
        Value::Text(_) => Some(text.to_owned()),
        value => value.text(),
    }
}

/// A word without quotes, as go-yaml resolves it.
pub(crate) fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        b'0'..=b'9' | b'.' => (false, text),
        _ => return None,
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let digits = digits.replace('_', "");
    let whole = |rest: &str, radix| {
        let rest = Some(rest).filter(|rest| !rest.starts_with(['+', '-']))?;
        u64::from_str_radix(rest, radix).ok()
    };
    let radix = |prefix: &str, radix| whole(digits.strip_prefix(prefix)?, radix);
    let octal = || whole(digits.strip_prefix('0')?, 8);
    #[expect(clippy::cast_precision_loss, reason = "as JSON has it")]
    let whole = radix("0x", 16)
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0o", 8))
        .or_else(octal)
        .map(|number| number as f64);
    // Not what Rust reads beside: "inf", "nan", signs in the middle.
    let decimal = || {
        let known = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
        digits
            .chars()
            .all(known)
            .then(|| digits.parse::<f64>().ok())
            .flatten()
            .filter(|number| number.is_finite())
    };
    let number = whole.or_else(decimal)?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Helm's own parser makes of these words.
    #[test]
    fn plain_words_are_what_helm_takes_them_for() {
        for word in ["y", "Yes", "YES", "on", "On", "true", "TRUE"] {
            assert_eq!(plain_scalar(word), Value::Bool(true), "{word}");
        }
        for word in ["n", "no", "No", "off", "False"] {
            assert_eq!(plain_scalar(word), Value::Bool(false), "{word}");
        }
        for word in ["", "~", "null", "Null"] {
            assert_eq!(plain_scalar(word), Value::Null, "{word}");
        }
        for (word, number) in [
            ("0755", 493.0),
            ("0o755", 493.0),
            ("0x1F", 31.0),
            ("0b11", 3.0),
            ("1_000", 1000.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("+5", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1_0.5", 10.5),
            ("0_1", 1.0),
            ("-0x1", -1.0),
            ("08", 8.0),
            ("0x8000000000000000", 9_223_372_036_854_775_808.0),
            ("09.5", 9.5),
        ] {
            assert_eq!(plain_scalar(word), Value::Number(number), "{word}");
        }
        for word in [
            "yEs",
            "tRUE",
            "52:54:00",
            "190:20:30",
            "2001-01-01",
            "<<",
            "=",
            "1e",
            "inf",
            "1-2",
            "-x",
            "0x+5",
            "0x-5",
        ] {
            assert_eq!(plain_scalar(word), Value::Text(word.to_owned()), "{word}");
        }
    }
}
