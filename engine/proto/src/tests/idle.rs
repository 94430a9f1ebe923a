//! A server's side that another thread goes on with.

use std::rc::Rc;
use std::time::Duration;

use super::flow::{client_config, server_config};
use super::pair::{Pair, Serve, secs};
use crate::config::{ClientConfig, ServerConfig, Timeouts};
use crate::server::{IdleServerConnection, ServerConnection};
use crate::streams::table::StreamKind;

fn is_send<T: Send + 'static>(_: &T) {}

/// Goes on with the server's side elsewhere; returns whether it may.
fn move_server(pair: &mut Pair, config: ServerConfig) -> bool {
    let idle: Option<IdleServerConnection> = pair.server.conn.to_idle();
    let Some(idle) = idle else { return false };
    is_send(&idle);
    assert_eq!(idle.connection_id(), pair.server.conn.connection_id());
    pair.server.conn = ServerConnection::from_idle(idle, Rc::new(config));
    true
}

#[test]
fn calls_go_on_after_a_move() {
    let mut pair = Pair::ready();
    pair.server.serve = Serve::Echo;
    for number in 0..20 {
        pair.call(number);
        pair.settle();
        assert!(pair.echoed(number));
        assert!(move_server(&mut pair, ServerConfig { shard: 1, shards: 2, ..Default::default() }));
        assert_eq!(pair.server.conn.accepted(), number + 1);
    }
    assert_eq!(pair.server.ran.len(), 20);
}

#[test]
fn a_connection_that_waits_for_something_stays() {
    let config = ServerConfig::default();
    let mut pair = Pair::new();
    assert!(!move_server(&mut pair, config), "no hello came");
    pair.settle();
    pair.server.serve = Serve::Park;
    pair.call(1);
    pair.settle();
    assert!(!move_server(&mut pair, config), "a call is in flight");
    pair.server.conn.unpark_all().for_each(drop);
    assert!(move_server(&mut pair, config));
    pair.server.conn.drain(&mut pair.server.out);
    assert!(!move_server(&mut pair, config), "it was told to go away");
}

/// A ping that was sent waits for its pong where it was sent; one that is due is sent wherever the connection is.
#[test]
fn clocks_go_along() {
    let timeouts = Timeouts { ping_after: secs(10), ping: secs(5), ..Timeouts::default() };
    let mut server = ServerConfig { timeouts, ..ServerConfig::default() };
    server.timeouts.jitter_percent = 0;
    let mut pair = Pair::with(server, ClientConfig::default());
    pair.settle();
    pair.wait(secs(6));
    assert!(move_server(&mut pair, server));
    assert!(pair.server.out.is_empty());
    pair.wait(secs(4));
    assert!(!pair.server.out.is_empty(), "the silence of before counts");
    assert!(!move_server(&mut pair, server), "a pong is awaited");
    pair.drive(Duration::from_millis(1));
    assert!(move_server(&mut pair, server));
}

/// The credit that streams share goes along: what was used before and not granted again is not there twice.
#[test]
fn credit_goes_along() {
    let mut pair = Pair::with(server_config(), client_config());
    pair.settle();
    let call = pair.stream(StreamKind::Server, 1);
    pair.settle();
    pair.server_sends(call, &[7; 300]).unwrap();
    assert!(!move_server(&mut pair, server_config()), "a stream is open");
    pair.server_ends(call, None);
    pair.settle();
    let before = pair.server.conn.stream_accounts();
    assert!(before.is_some());
    assert!(move_server(&mut pair, server_config()));
    assert_eq!(pair.server.conn.stream_accounts(), before);
}
