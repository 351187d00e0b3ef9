use proptest::prelude::*;

use super::*;

const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n";

fn drain(client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.poll())
        .map(|output| match output {
            Output::Transmit(bytes) => String::from_utf8(bytes).unwrap().trim_end().to_owned(),
            Output::Event(event) => format!("{event:?}"),
            Output::Answer(id, answer) => format!("{id}: {answer:?}"),
        })
        .collect()
}

fn ready() -> Client {
    let mut client = Client::default();
    client.receive(GREETING);
    client.receive(b"{\"return\": {}, \"id\": 0}\r\n");
    drain(&mut client);
    client
}

#[test]
fn greets_and_is_ready_when_capabilities_are_agreed() {
    let mut client = Client::default();
    client.receive(GREETING);
    assert_eq!(drain(&mut client), [r#"{"execute":"qmp_capabilities","id":0}"#]);
    client.receive(b"{\"return\": {}, \"id\": 0}\r\n");
    assert_eq!(drain(&mut client), ["Ready(Version { major: 7, minor: 2, micro: 22 })"]);
}

#[test]
fn commands_carry_their_arguments_and_answers_find_their_question() {
    let mut client = ready();
    client.send(&Command::SetVncPassword("se\"cret".to_owned()));
    client.send(&Command::BlockResize { device: "disk0".to_owned(), size_bytes: 1 << 30 });
    client.send(&Command::QueryStatus);
    assert_eq!(
        drain(&mut client),
        [
            r#"{"execute":"set_password","id":1,"arguments":{"protocol":"vnc","password":"se\"cret"}}"#,
            r#"{"execute":"block_resize","id":2,"arguments":{"device":"disk0","size":1073741824}}"#,
            r#"{"execute":"query-status","id":3}"#,
        ]
    );
    client.receive(
        b"{\"return\": {\"status\": \"internal-error\", \"running\": false}, \"id\": 3}\n",
    );
    client
        .receive(b"{\"id\": 1, \"error\": {\"class\": \"GenericError\", \"desc\": \"no vnc\"}}\n");
    assert_eq!(
        drain(&mut client),
        ["Status(InternalError)", "Refused { command: \"set_password\", why: \"no vnc\" }"]
    );
}

#[test]
fn a_question_has_its_answer_or_qemus_words_and_is_no_refused_command() {
    let mut client = Client::default();
    client.receive(GREETING);
    assert!(!client.is_ready());
    client.receive(b"{\"return\": {}, \"id\": 0}\r\n");
    assert!(client.is_ready());
    drain(&mut client);
    let (first, line) = client.ask("query-balloon", None);
    assert_eq!(line, b"{\"execute\":\"query-balloon\",\"id\":1}\r\n");
    let (second, line) = client.ask("getfd", Some(json!({"fdname": "a"})));
    assert_eq!(line, b"{\"execute\":\"getfd\",\"id\":2,\"arguments\":{\"fdname\":\"a\"}}\r\n");
    assert_eq!((first, second), (1, 2));
    client
        .receive(b"{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\\nfd\"}}\n");
    client.receive(b"{\"id\": 1, \"return\": {\"actual\": 5}}\n{\"id\": 1, \"return\": {}}\n");
    let said = drain(&mut client);
    assert_eq!(said, ["2: Err(\"nofd\")", "1: Ok(Object {\"actual\": Number(5)})"]);
    assert_eq!(client.reasons().get(&Reason::UnknownId), Some(&1));
}

#[test]
fn events_are_understood_in_any_cut() {
    let text =
        b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"POWERDOWN\"}\r\n\
        {\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 0}}\r\n\
        {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n";
    let want = ["Powerdown", "Shutdown(Guest)"];
    for cut in 0..text.len() {
        let mut client = ready();
        let (head, tail) = text.split_at(cut);
        client.receive(head);
        client.receive(tail);
        assert_eq!(drain(&mut client), want, "cut at {cut}");
    }
}

#[test]
fn an_error_of_a_disk_says_which_and_what_became_of_it() {
    let mut client = ready();
    client.receive(
        b"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"device\": \"disk0\", \"node-name\": \"#block1\", \
        \"nospace\": true, \"reason\": \"No space left\\u001b on device\", \"operation\": \"write\", \"action\": \"stop\"}}\r\n\
        {\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"device\": \"\", \"node-name\": \"data\", \
        \"nospace\": false, \"reason\": \"Input/output error\", \"operation\": \"read\", \"action\": \"report\"}}\r\n\
        {\"event\": \"SUSPEND\"}\r\n{\"event\": \"WAKEUP\"}\r\n",
    );
    assert_eq!(
        drain(&mut client),
        [
            r#"BlockIoError { device: "disk0", operation: "write", reason: "No space left on device", no_space: true, stops: true }"#,
            r#"BlockIoError { device: "data", operation: "read", reason: "Input/output error", no_space: false, stops: false }"#,
            "Suspend",
            "Wakeup"
        ]
    );
    assert_eq!(run_state("suspended"), RunState::Suspended);
    assert_eq!(run_state("prelaunch"), RunState::Other("prelaunch"));
    assert_eq!(run_state("of the future"), RunState::Other("unknown"));
}

#[test]
fn a_line_without_end_does_not_grow_memory_and_the_next_is_understood() {
    let mut client = ready();
    for _ in 0..64 {
        client.receive(&[b'x'; 4096]);
        assert!(client.line.len() <= MAX_LINE_BYTES);
    }
    client.receive(b"\n{\"event\": \"STOP\"}\n");
    assert_eq!(drain(&mut client), ["Stop"]);
    assert_eq!(client.reasons().get(&Reason::LineTooLong), Some(&1));
}

#[test]
fn a_flood_of_events_is_bounded() {
    let mut client = ready();
    for _ in 0..10_000 {
        client.receive(b"{\"event\": \"RESUME\"}\n");
    }
    assert_eq!(drain(&mut client).len(), MAX_EVENTS);
    assert_eq!(client.reasons().get(&Reason::Flood), Some(&(10_000 - MAX_EVENTS as u64)));
}

proptest! {
    #[test]
    fn no_bytes_end_or_grow_it(chunks in proptest::collection::vec(
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            Just(GREETING.to_vec()),
            "\\{\"(event|return|error|QMP)\": (null|1|\"[A-Z]{0,9}\"|\\{\\})(, \"id\": [0-9]{1,20})?\\}\n".prop_map(String::into_bytes),
        ], 0..40)) {
        let mut client = Client::default();
        for chunk in &chunks {
            client.receive(chunk);
            prop_assert!(client.line.len() <= MAX_LINE_BYTES && client.in_flight.len() <= MAX_IN_FLIGHT);
            while client.poll().is_some() {}
        }
    }
}
