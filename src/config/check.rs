//! One value alone, for whoever writes it elsewhere: what a start would refuse is told before there is one.

use super::options::Options;
use super::parse::{Ambient, Invalid};

/// Whether a variable may have this value. One that is not known here may have any.
pub fn check(variable: &str, value: &str) -> Result<(), Invalid> {
    let mut options = Options::default();
    let option = match variable {
        "IMG_SOURCE" => &mut options.image_source,
        "IMG_SHA256" => &mut options.image_checksum,
        "BERTH_DISK_SIZE" => &mut options.disk_size,
        "BERTH_MAC" => &mut options.mac,
        "BERTH_RESERVED_PORTS" => &mut options.reserved_ports,
        _ => return Ok(()),
    };
    *option = Some(value.to_owned());
    let Err(errors) = options.parse(&Ambient::default()) else { return Ok(()) };
    errors.0.into_iter().find(|invalid| invalid.variable == variable).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_as_a_start_checks_it() {
        for (variable, good, wrong) in [
            ("IMG_SOURCE", "http://h/x", "htp://x/y"),
            ("IMG_SHA256", "sha512:", "sha1:00"),
            ("BERTH_DISK_SIZE", "5Gi", "1.5Gi"),
            ("BERTH_MAC", "52:54:00:12:34:56", "01:00:5e:00:00:01"),
            ("BERTH_RESERVED_PORTS", "22/tcp", "22/icmp"),
        ] {
            let digest = "a".repeat(if variable == "IMG_SHA256" { 128 } else { 0 });
            assert_eq!(check(variable, &format!("{good}{digest}")), Ok(()), "{variable}");
            assert_eq!(check(variable, wrong).unwrap_err().variable, variable);
        }
        assert_eq!(check("HOSTNAME", "../x"), Ok(()));
    }
}
