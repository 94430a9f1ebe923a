//! Settings in files: what is left out has its default, and what is out of range is named with its range.
#![allow(clippy::unwrap_used, reason = "tests")]

use corewire::{
    Address, Budgets, ChannelConfig, ClassShares, ClientShard, Host, Limits, Placement, Spin,
    Steering, Timeouts,
};
use serde_json::{from_str, to_string};
use std::time::Duration;

#[test]
fn settings_are_read_as_they_are_written() {
    let timeouts = Timeouts { idle: Some(Duration::from_secs(90)), ..Timeouts::default() };
    assert_eq!(from_str::<Timeouts>(&to_string(&timeouts).unwrap()).unwrap(), timeouts);
    assert_eq!(from_str::<Timeouts>(r#"{"idle": "90 s"}"#).unwrap(), timeouts);
    let config = ChannelConfig { connect_timeout: Duration::MAX, ..ChannelConfig::default() };
    assert!(from_str::<ChannelConfig>(&to_string(&config).unwrap()).is_err());
    assert_eq!(from_str::<ChannelConfig>("{}").unwrap(), ChannelConfig::default());
    assert_eq!(from_str::<Budgets>("{}").unwrap(), Budgets::default());
    let budgets = from_str::<Budgets>(r#"{"queue_delay": {"target": "2 ms"}}"#).unwrap();
    assert_eq!(budgets.queue_delay.unwrap().target, Duration::from_millis(2));
    let shares = from_str::<ClassShares>(r#"{"batch": 7}"#).unwrap();
    assert_eq!(shares, ClassShares { batch: 7, ..ClassShares::default() });
    assert_eq!(from_str::<ClassShares>(&to_string(&shares).unwrap()).unwrap(), shares);
    let limits = from_str::<Limits>(r#"{"in_flight": 64}"#).unwrap();
    assert_eq!(limits.in_flight.get(), 64);
    for spin in [Spin::Off, Spin::Always, Spin::For(Duration::from_micros(50))] {
        assert_eq!(from_str::<Spin>(&to_string(&spin).unwrap()).unwrap(), spin);
    }
    assert_eq!(from_str::<Placement>(r#""0,2-3""#).unwrap(), Placement::Cpus(vec![0, 2, 3]));
    assert_eq!(from_str::<Placement>(r#""split:2""#).unwrap(), Placement::Split(2));
    assert_eq!(from_str::<Steering>(r#""incoming-cpu""#).unwrap(), Steering::IncomingCpu);
    assert_eq!(to_string(&Placement::Unpinned(2)).unwrap(), r#""unpinned:2""#);
    assert_eq!(from_str::<Host>(&to_string(&Host::Plain).unwrap()).unwrap(), Host::Plain);
    for address in ["127.0.0.1:7000", "[::1]:7000", "db.example:7000", "unix:/run/db"] {
        let address: Address = address.parse().unwrap();
        assert_eq!(from_str::<Address>(&to_string(&address).unwrap()).unwrap(), address);
    }
    let shard = from_str::<ClientShard>(r#"{"cpu": 2, "spin": "50", "host": "plain"}"#).unwrap();
    assert_eq!((shard.cpu, shard.host), (Some(2), Host::Plain));
    let read: ClientShard = from_str(&to_string(&shard).unwrap()).unwrap();
    assert_eq!((read.cpu, read.spin), (shard.cpu, shard.spin));
}

#[test]
fn what_is_out_of_range_names_the_field_and_the_range() {
    let wrong = [
        (from_str::<Timeouts>(r#"{"ping": "1 ms"}"#).map(drop), "timeouts.ping is 1 ms"),
        (from_str::<Timeouts>(r#"{"pnig": "1 s"}"#).map(drop), "pnig"),
        (from_str::<Timeouts>(r#"{"ping": 5}"#).map(drop), "a time such as"),
        (
            from_str::<Limits>(r#"{"in_flight": 1}"#).map(drop),
            "in_flight is 1; it must be between 16",
        ),
        (
            from_str::<Budgets>(r#"{"refuse_after": "1 h"}"#).map(drop),
            "budgets.refuse_after is 1 h",
        ),
        (from_str::<ChannelConfig>(r#"{"waiting_max": 0}"#).map(drop), "waiting_max is 0"),
        (
            from_str::<ChannelConfig>(r#"{"connection": {"timeouts": {"hello": "0 s"}}}"#)
                .map(drop),
            "timeouts.hello is 0 ns",
        ),
        (
            from_str::<ClassShares>(r#"{"latency": 1001}"#).map(drop),
            "class_shares.latency is 1001; it must be between 1 and 1000",
        ),
        (from_str::<Spin>(r#""sometimes""#).map(drop), "spin: give off, always"),
        (from_str::<Placement>(r#""some""#).map(drop), "placement: 'some' is no placement"),
        (from_str::<Address>(r#""nowhere""#).map(drop), "address: 'nowhere' is not an address"),
        (from_str::<ClientShard>(r#"{"core": 2}"#).map(drop), "core"),
        (from_str::<Host>(r#""tokio""#).map(drop), "give auto, glommio or plain"),
    ];
    for (outcome, part) in wrong {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}
