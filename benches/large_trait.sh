#!/usr/bin/env bash
# How much work is a large trait for rustc? Writes a program with one service of METHODS methods of twenty signatures,
# with a server and a client that calls each of them, and builds it.
#
#     benches/large_trait.sh [METHODS [PROFILE [COREWIRE]]]
#
# PROFILE is dev or release; COREWIRE is the directory of the crate `corewire`, to compare with another checkout. What
# the program depends on is built before and not counted. Tells the CPU time of everything that cargo runs then, which
# a busy machine moves less than the time that passes. LARGE_TRAIT_DIR keeps the program, for a look at its code.
set -euo pipefail

methods=${1:-1000}
profile=${2:-release}
root=$(cd "$(dirname "$0")/.." && pwd)
corewire=$(cd "${3:-$root/services}" && pwd)
dir=${LARGE_TRAIT_DIR:-$(mktemp -d)}
[ -n "${LARGE_TRAIT_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/src"

# One line for each signature: attribute|arguments|result without its error|body|the client's arguments.
signatures() {
    cat <<'LINES'
|||Ok(())|
||u64|Ok(self.0)|
|id: u64|u64|Ok(id + self.0)|1
|id: u64|String|Ok(id.to_string())|1
|id: Option<u64>|Option<u64>|Ok(id)|None
|key: String|Option<String>|Ok(Some(key))|"key".into()
|key: String, value: String|()|let _ = (key, value); Ok(())|"key".into(), "value".into()
|key: String, value: Vec<u8>, for_s: u32|bool|Ok(key.len() + value.len() > for_s as usize)|"key".into(), vec![1], 2
|id: u64, amount: u32|bool|Ok(id > u64::from(amount))|1, 2
|left: u32, right: u32|u32|Ok(left.wrapping_add(right))|1, 2
|ids: Vec<u64>|Vec<u64>|Ok(ids)|vec![1]
|name: String, tags: Vec<String>|u64|Ok((name.len() + tags.len()) as u64)|"name".into(), vec![]
|text: String, count: u32, exact: bool|Vec<String>|let _ = (count, exact); Ok(vec![text])|"text".into(), 1, true
|point: (f64, f64)|f64|Ok(point.0 + point.1)|(1.0, 2.0)
|body: Bytes|Bytes|Ok(body)|Bytes::new()
|context: &Context, key: String|String|let _ = context; Ok(key)|"key".into()
|context: &Context, id: u64|u64|let _ = context; Ok(id)|1
#[one_way]|key: String||drop(key);|"key".into()
|from: u64|Streaming<String>|let _ = from; Ok(Streaming::empty())|1
|name: String, parts: Streaming<u64>|u64|drop(parts); Ok(name.len() as u64)|"name".into(), Streaming::empty()
LINES
}

program() {
    signatures | awk -v methods="$methods" -F'|' '
        { attribute[NR - 1] = $1; arguments[NR - 1] = $2; reply[NR - 1] = $3; body[NR - 1] = $4; values[NR - 1] = $5 }
        function signature(n, kind) {
            kind = n % NR
            return "async fn method_" n "(&self" (arguments[kind] ? ", " : "") arguments[kind] ")" \
                (attribute[kind] ? "" : " -> Result<" (reply[kind] ? reply[kind] : "()") ", Status>")
        }
        END {
            print "use corewire::*;\n"
            print "#[corewire::service]\npub trait Large {"
            for (n = 0; n < methods; n++) {
                if (attribute[n % NR]) print "    " attribute[n % NR]
                print "    " signature(n) ";"
            }
            print "}\n\nstruct Served(u64);\n\nimpl Large for Served {"
            for (n = 0; n < methods; n++) print "    " signature(n) " {\n        " body[n % NR] "\n    }"
            print "}\n"
            for (n = 0; n < methods; n++) {
                if (n % NR == 0) print "async fn call_" n / NR "(client: &LargeClient) -> Result<(), CallError> {"
                print "    client.method_" n "(" values[n % NR] ").await?;"
                if (n % NR == NR - 1 || n == methods - 1) print "    Ok(())\n}\n"
            }
            print "async fn call(address: Address) -> Result<(), Box<dyn std::error::Error>> {"
            print "    let client = LargeClient::connect(&address).await?;"
            for (n = 0; n < methods; n += NR) print "    Box::pin(call_" n / NR "(&client)).await?;"
            print "    Ok(())\n}\n"
            print "fn main() -> Result<(), Box<dyn std::error::Error>> {"
            print "    let server = Server::builder().address(\"127.0.0.1:0\").service(|_| LargeServer::new(Served(1))).start()?;"
            print "    let address = server.addresses().first().cloned().ok_or(\"no address\")?;"
            print "    block_on_shard(ClientShard::default(), move || async { call(address).await.map_err(|it| it.to_string()) })??;"
            print "    server.stop();\n    let _ = server.wait();\n    Ok(())\n}"
        }'
}

cat >"$dir/Cargo.toml" <<EOT
[package]
name = "large-trait"
edition = "2024"

[workspace]

[dependencies]
corewire = { path = "$corewire" }

[profile.dev.package."*"]
debug = false

[profile.release]
codegen-units = 1
EOT
cp "$root/Cargo.lock" "$root/rust-toolchain.toml" "$dir/"
echo 'fn main() {}' >"$dir/src/main.rs"
export CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$dir/target}
cd "$dir"
cargo build --quiet --profile "$profile"
program >src/main.rs
TIMEFORMAT="$methods methods, $profile: %U s user, %S s system"
time cargo build --quiet --profile "$profile"
