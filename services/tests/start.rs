//! Servers that cannot start say why in one sentence, and shards that stop turning are noticed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::{
    Channel, ChannelConfig, ConnectError, Placement, Server, ServerBuilder, SharedChannel,
    Transport, blocking,
};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::peer::{Peer, request};
use support::service::{Habits, SubjectClient, SubjectServer, Target};
use support::{address, builder, client, end, server, until};

#[track_caller]
fn assert_refused(builder: ServerBuilder, names: &[&str]) {
    let text = builder.start().expect_err("it must not start").to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    for name in names {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
}

#[test]
fn each_start_error_is_a_sentence_with_its_remedy() {
    let running = server();
    let taken = address(&running);
    let shown = taken.to_string();
    assert_refused(builder(1).address(taken), &[&shown, "in use", "another port"]);
    assert_refused(
        builder(1).placement(Placement::Cpus(vec![1000])),
        &["CPU 1000 is not online", "choose from"],
    );
    assert_refused(builder(0), &["0 shards", "between 1 and 65535"]);
    assert_refused(builder(1).address("nowhere"), &["'nowhere'", "host:port"]);
    assert_refused(builder(1).backlog(0), &["backlog", "between 1 and 65535"]);
    assert_refused(builder(1).stall_after(Duration::ZERO), &["stall_after", "100 ms"]);
    assert_refused(Server::builder().address("127.0.0.1:0"), &["no service"]);
    let homeless = Server::builder().service(|_| SubjectServer::new(Target::default()));
    assert_refused(homeless, &["addresses", "127.0.0.1:7000"]);
    let twice = builder(2).service(|_| SubjectServer::new(Target::default()));
    assert_refused(twice, &["'Subject'", "added twice"]);
    let one = Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(2));
    let panics = one.service(|shard| {
        assert!(shard.id.0 != 1, "this shard's service cannot be made");
        SubjectServer::new(Target::default())
    });
    assert_refused(panics, &["shard", "panicked"]);
    end(running);
}

/// It is never run: the shard cannot start.
#[corewire::main]
async fn a_main() {
    support::child::say("child-ran", "");
}

#[test]
fn a_child() {
    if support::child::role().is_some() {
        a_main();
    }
}

#[test]
fn a_main_without_a_shard_ends_with_code_1_and_the_sentence() {
    let run = |host| support::child::run("a_child", "main", &[("COREWIRE_HOST", host)]);
    let (status, said, errors) = run("quick");
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(!said.contains("child-ran"), "{said}");
    let sentence = "error: the environment variable COREWIRE_HOST: 'quick' is not a shard host; give auto, glommio or plain";
    assert!(errors.lines().any(|line| line.ends_with(sentence)), "{errors}");
    let (status, said, errors) = run("plain");
    assert!(status.success() && said.contains("child-ran"), "{said}{errors}");
}

/// A handler that keeps its thread: the listener goes out of service, and comes back.
#[test]
fn a_stalled_shard_takes_no_clients_until_it_turns_again() {
    let habits = Habits::default();
    let shared = habits.clone();
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .stall_after(Duration::from_millis(200))
        .service(move |_| SubjectServer::new(Target::new(shared.clone())))
        .start()
        .unwrap();
    let to = address(&server);
    let mut peer = Peer::polite(to);
    peer.send(&request(1, "block", b""));
    until("the handler has the thread", || habits.begun() == 1);
    until("new clients are refused", || {
        TcpStream::connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    habits.unblock.store(true, Ordering::SeqCst);
    assert_eq!(peer.reply().0.call, 1);
    until("new clients are taken again", || TcpStream::connect(to).is_ok());
    Peer::polite(to).assert_serves(1);
    drop(peer);
    end(server);
}

/// What every kind of channel tells about the server at its other end.
trait OtherEnd: Transport {
    fn shard(&self) -> Option<(u16, u16)>;
    fn connection(&self) -> Option<u64>;
}

macro_rules! other_ends {
    ($($channel:ty)*) => { $(
        impl OtherEnd for $channel {
            fn shard(&self) -> Option<(u16, u16)> {
                self.server_shard()
            }
            fn connection(&self) -> Option<u64> {
                self.connection_id()
            }
        }
    )* };
}

other_ends! { Channel SharedChannel blocking::Channel }

kinds! { a_channel_says_which_shard_it_reached }

async fn a_channel_says_which_shard_it_reached<C: OtherEnd>(
    connect: impl Fn(&str, ChannelConfig) -> Result<C, ConnectError>,
) {
    let server = builder(2).start().unwrap();
    let to = address(&server).to_string();
    let mut seen = [0, 0];
    let mut connections = BTreeSet::new();
    while seen.contains(&0) {
        let channel = connect(&to, ChannelConfig::default()).unwrap();
        assert_eq!((channel.shard(), channel.connection()), (None, None));
        let client = SubjectClient::new(channel);
        let shard = client.who().await.unwrap().1;
        assert_eq!(client.channel().shard(), Some((shard, 2)));
        assert!(connections.insert(client.channel().connection().unwrap()), "ids differ");
        seen[usize::from(shard)] += 1;
        assert!(connections.len() < 64, "{seen:?}");
    }
    end(server);
}

/// The kernel spreads connections; the hello says where one landed, and so does the handler.
#[test]
fn every_shard_serves_and_says_which_it_is() {
    let server = builder(2).start().unwrap();
    let to = address(&server);
    let seen = client(move || async move {
        let mut seen = [0, 0];
        for _ in 0..64 {
            let client = SubjectClient::connect(to).await.unwrap();
            let shard = client.who().await.unwrap().1;
            assert_eq!(client.channel().server_shard(), Some((shard, 2)));
            seen[usize::from(shard)] += 1;
        }
        seen
    });
    assert!(seen[0] > 8 && seen[1] > 8, "{seen:?}");
    end(server);
}
