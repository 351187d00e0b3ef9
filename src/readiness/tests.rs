use super::*;

fn of(dhcp: &Health, dns: &Health) -> (Serving, Option<String>) {
    let services = Services { dhcp: dhcp.clone(), dns: dns.clone(), ..Services::OFF };
    let Network { serving, reason, .. } =
        network(&services, observe::Counts::default(), &Ways::default(), &[], None);
    (serving, reason)
}

#[test]
fn the_worst_of_the_services_counts() {
    let failing = Health::Failing("port 67 is taken".to_owned());
    for (health, serving) in [
        (Health::Off, Serving::Off),
        (Health::Starting, Serving::Starting),
        (Health::Serving, Serving::Serving),
    ] {
        assert_eq!(of(&health, &health), (serving, None));
        let why = Some("dhcp: port 67 is taken".to_owned());
        assert_eq!(of(&failing, &health), (Serving::Failing, why));
        let why = Some("dns: port 67 is taken".to_owned());
        assert_eq!(of(&health, &failing), (Serving::Failing, why));
    }
    assert_eq!(of(&Health::Serving, &Health::Off).0, Serving::Serving);
    assert_eq!(of(&Health::Serving, &Health::Starting).0, Serving::Starting);
    assert_eq!(of(&Health::Starting, &Health::Off).0, Serving::Starting);
}

#[test]
fn each_half_is_ready_when_what_it_needs_is() {
    let running = MachineStatus { phase: Phase::Running, ..Default::default() };
    let ready = |half, machine: &Option<MachineStatus>, serving: Option<Serving>| {
        let network = serving.map(|serving| Network { serving, ..Network::default() });
        fold(half, machine.as_ref(), network, None, Vec::new()).ready
    };
    let (some, starting) = (Some(running.clone()), Some(MachineStatus::default()));
    for serving in [Serving::Off, Serving::Serving] {
        assert!(ready(Half::Run, &some, Some(serving)) && ready(Half::Net, &None, Some(serving)));
        assert!(!ready(Half::Run, &starting, Some(serving)));
    }
    for serving in [Serving::Starting, Serving::Failing] {
        assert!(!ready(Half::Run, &some, Some(serving)) && !ready(Half::Net, &None, Some(serving)));
    }
    assert!(!ready(Half::Vm, &some, None), "no network half is heard");
    let serving = Network { serving: Serving::Serving, ..Network::default() };
    let missing = Some("no sign of it".to_owned());
    let status = fold(Half::Run, Some(&running), Some(serving), missing, Vec::new());
    assert_eq!((status.ready, status.reasons), (false, vec!["no sign of it".to_owned()]));
}

#[test]
fn a_download_is_told_while_it_lasts() {
    let (since, _) = started();
    let of = |until| fetch(Fetching { since, done_bytes: 7, size_bytes: Some(9), until });
    assert_eq!(of(None), Some(Fetch { bytes: 7, size: Some(9) }));
    assert_eq!(of(Some(since)), None);
}
