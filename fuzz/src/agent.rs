//! The guest's agent, as a guest likes it to be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use berth::proto::agent::{Agent, Answer, Input, NoAnswer, Output, Request};

const HOLD: Duration = Duration::from_secs(20);
const REQUESTS: [Request; 11] = [
    Request::Ping,
    Request::Info,
    Request::OsInfo,
    Request::HostName,
    Request::Interfaces,
    Request::FileSystems,
    Request::Freeze { hold: HOLD },
    Request::Thaw,
    Request::FreezeStatus,
    Request::SetTime { unix_ns: 1 },
    Request::Shutdown,
];

fn is_bounded(text: &str) -> bool {
    text.chars().count() <= 1024 && !text.chars().any(char::is_control)
}

fn check(answer: &Result<Answer, NoAnswer>) {
    let texts: Vec<&String> = match answer {
        Ok(Answer::HostName(name)) => vec![name],
        Ok(Answer::Interfaces(interfaces)) => {
            assert!(interfaces.len() <= 64);
            assert!(interfaces.iter().all(|interface| interface.addresses.len() <= 32));
            interfaces.iter().map(|interface| &interface.name).collect()
        }
        Ok(Answer::FileSystems(systems)) => {
            assert!(systems.len() <= 64);
            systems.iter().flat_map(|system| [&system.mountpoint, &system.kind]).collect()
        }
        Ok(Answer::Info(info)) => {
            assert!(info.commands.len() <= 256);
            info.commands.iter().chain(&info.version).collect()
        }
        Ok(Answer::Os(os)) => os.id.iter().chain(&os.pretty_name).chain(&os.machine).collect(),
        Err(NoAnswer::Refused(words)) => vec![words],
        Ok(Answer::Done | Answer::Frozen(_) | Answer::Thawed(_) | Answer::FreezeStatus(_)) => {
            vec![]
        }
        Err(_) => vec![],
    };
    assert!(texts.into_iter().all(|text| is_bounded(text)), "{answer:?}");
}

/// Steps of two octets, what and how much: octets that follow come from the guest, seconds pass, something is asked, the port
/// opens or closes. Each that asks has one answer at most, and a guest that says nothing is not asked without end. The number of
/// each beginning is 7, so that a guest can say it.
pub fn agent(mut now: Instant, mut data: &[u8]) {
    let mut agent = Agent::new(|| 7);
    let (mut next, mut waiting) = (0, BTreeSet::new());
    while let [step, much, rest @ ..] = data {
        data = rest;
        match step % 4 {
            0 => {
                let (said, rest) = data.split_at(data.len().min(usize::from(*much)));
                data = rest;
                agent.handle(now, Input::Bytes(said));
            }
            1 => {
                now += Duration::from_secs((*much).into());
                agent.handle(now, Input::Tick);
            }
            2 => {
                waiting.insert(next);
                let request = REQUESTS[usize::from(*much) % REQUESTS.len()];
                agent.handle(now, Input::Ask { number: next, request });
                next += 1;
            }
            _ => agent.handle(now, Input::Port { open: much % 2 == 1 }),
        }
        let mut outputs = 0;
        while let Some(output) = agent.poll() {
            outputs += 1;
            match output {
                Output::Transmit(line) => {
                    let line = line.strip_prefix(&[0xff]).unwrap_or(&line);
                    assert!(line.ends_with(b"\n"));
                    serde_json::from_slice::<serde_json::Value>(line).expect("JSON");
                }
                Output::Answer(number, answer) => {
                    assert!(waiting.remove(&number), "two answers");
                    check(&answer);
                }
                Output::Known => {
                    let known = agent.known();
                    assert!(known.host_name.iter().all(|name| is_bounded(name)));
                }
            }
        }
        assert!(outputs <= 16, "{outputs} at once");
        // Eight, a thaw, a shutdown, and the one that is under way.
        assert!(waiting.len() <= 11, "more wait than may");
        assert!(agent.deadline().is_none_or(|at| at > now), "asked without end");
    }
}
