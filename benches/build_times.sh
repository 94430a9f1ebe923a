#!/usr/bin/env bash
# How long does a newcomer wait for the compiler? Builds a hello world (one service of one method, its server and a call
# of it, in one program) with Corewire and with tonic, in turns: from nothing, and again after a change in the handler.
#
#     benches/build_times.sh [ROUNDS [COREWIRE]]
#
# COREWIRE is the directory of the crate `corewire`, to compare with another checkout. Everything is fetched before and
# not counted; both are dev builds with cargo's defaults and all cores. tonic's code is made from a .proto file in
# build.rs, as its own guide does it, so it needs `protoc` (on Debian: protobuf-compiler); without that, Corewire is
# built alone. The machine should be quiet. Tells each round, and the medians.
set -euo pipefail

rounds=${1:-3}
root=$(cd "$(dirname "$0")/.." && pwd)
corewire=$(cd "${2:-$root/services}" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset CARGO_TARGET_DIR CARGO_INCREMENTAL
for setting in $(env | sed -n 's/^\(CARGO_PROFILE_[A-Z_]*\)=.*/\1/p'); do unset "$setting"; done

mkdir -p "$dir"/corewire/src "$dir"/tonic/src "$dir"/tonic/proto

cat >"$dir/corewire/Cargo.toml" <<EOC
[package]
name = "hello"
edition = "2024"

[workspace]

[dependencies]
corewire = { path = "$corewire" }
EOC
cat >"$dir/corewire/src/main.rs" <<'EOC'
use corewire::{ClientShard, Placement, Server, Status, block_on_shard};

#[corewire::service]
pub trait Greeter {
    async fn hello(&self, name: String) -> Result<String, Status>;
}

struct Polite;

impl Greeter for Polite {
    async fn hello(&self, name: String) -> Result<String, Status> {
        Ok(format!("Hello {name}!"))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder()
        .address("127.0.0.1:0")
        .placement(Placement::Unpinned(1))
        .service(|_shard| GreeterServer::new(Polite))
        .start()?;
    let address = server.addresses()[0].clone();
    let text = block_on_shard(ClientShard::default(), move || async move {
        Ok::<_, Box<dyn std::error::Error>>(GreeterClient::connect(address).await?.hello("you".into()).await?)
    })??;
    println!("{text}");
    Ok(())
}
EOC

cat >"$dir/tonic/Cargo.toml" <<'EOC'
[package]
name = "hello"
edition = "2024"

[workspace]

[dependencies]
prost = "0.14"
tokio = { version = "1", features = ["macros", "net", "rt-multi-thread"] }
tokio-stream = { version = "0.1", features = ["net"] }
tonic = "0.14"
tonic-prost = "0.14"

[build-dependencies]
tonic-prost-build = "0.14"
EOC
cat >"$dir/tonic/build.rs" <<'EOC'
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::compile_protos("proto/hello.proto")?;
    Ok(())
}
EOC
cat >"$dir/tonic/proto/hello.proto" <<'EOC'
syntax = "proto3";
package hello;

service Greeter {
  rpc Hello (Request) returns (Reply);
}

message Request {
  string name = 1;
}

message Reply {
  string text = 1;
}
EOC
cat >"$dir/tonic/src/main.rs" <<'EOC'
mod hello {
    tonic::include_proto!("hello");
}

use hello::greeter_client::GreeterClient;
use hello::greeter_server::{Greeter, GreeterServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

struct Polite;

#[tonic::async_trait]
impl Greeter for Polite {
    async fn hello(&self, request: Request<hello::Request>) -> Result<Response<hello::Reply>, Status> {
        Ok(Response::new(hello::Reply { text: format!("Hello {}!", request.into_inner().name) }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = Server::builder().add_service(GreeterServer::new(Polite));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut client = GreeterClient::connect(format!("http://{address}")).await?;
    let reply = client.hello(hello::Request { name: "you".into() }).await?;
    println!("{}", reply.into_inner().text);
    Ok(())
}
EOC

who="corewire"
cp "$root/Cargo.lock" "$dir/corewire/"
if command -v protoc >/dev/null; then
    who="corewire tonic"
else
    echo "no protoc: tonic is left out" >&2
fi
for name in $who; do
    cp "$root/rust-toolchain.toml" "$dir/$name/"
    (cd "$dir/$name" && cargo fetch --quiet)
done

# Seconds with two digits that a command takes.
seconds() {
    local begun=$EPOCHREALTIME ended
    "$@" >&2
    ended=$EPOCHREALTIME
    awk -v b="$begun" -v e="$ended" 'BEGIN { printf "%.2f", e - b }'
}

build() { cargo build --quiet; }

for round in $(seq "$rounds"); do
    for name in $who; do
        cd "$dir/$name"
        rm -rf target
        clean=$(seconds build)
        [ "$(./target/debug/hello)" = "Hello you!" ] || { echo "$name does not say hello" >&2; exit 1; }
        sed -i "s/Hello \(.*\)!\"/Hello \1! ($round)\"/" src/main.rs
        again=$(seconds build)
        ./target/debug/hello | grep -q "Hello you! ($round)" || { echo "$name was not built again" >&2; exit 1; }
        sed -i "s/! ($round)\"/!\"/" src/main.rs
        echo "$name $clean $again" | tee -a "$dir/times" | sed "s/^/[round $round] /"
    done
done
median() { sort -g | awk '{ all[NR] = $1 } END { print NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'; }
echo
echo "| hello world | from nothing, s | after a change in the handler, s |"
echo "|---|---:|---:|"
for name in $who; do
    of=$(grep "^$name " "$dir/times")
    echo "| $name | $(cut -d' ' -f2 <<<"$of" | median) | $(cut -d' ' -f3 <<<"$of" | median) |"
done
