//! tarpc over TCP with bincode, its usual transport. Bodies go through `serde_bytes`; without it bincode takes them
//! apart byte by byte.

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use corewire_bench_peers::{
    Caller, Command, Load, accept_until_told, block_on_core, listen, run_load,
};
use futures::StreamExt as _;
use serde_bytes::ByteBuf;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_util::codec::{Framed, LengthDelimitedCodec};
use tarpc::{client, context, serde_transport};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The largest frame: the largest body that is measured here, with room for what surrounds it.
const MAX_FRAME: usize = 17 << 20;

#[tarpc::service]
trait Echo {
    /// Returns the body.
    async fn echo(body: ByteBuf) -> ByteBuf;
}

#[derive(Debug, Clone)]
struct Server;

impl Echo for Server {
    async fn echo(self, _: context::Context, body: ByteBuf) -> ByteBuf {
        body
    }
}

#[derive(Clone)]
struct Client(EchoClient);

impl Caller for Client {
    async fn call(&self, body: Bytes) -> Result<Bytes> {
        let reply = self.0.echo(context::current(), ByteBuf::from(body)).await?;
        Ok(reply.into_vec().into())
    }
}

/// Echo over tarpc
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve(serve) => block_on_core(serve.cpu, async {
            let listener = listen(serve.addr).await?;
            accept_until_told(listener, |stream| {
                let transport = serde_transport::new(framed(stream), Bincode::default());
                let calls = BaseChannel::with_defaults(transport).execute(Server.serve());
                tokio::spawn(calls.for_each(async |call| _ = tokio::spawn(call)));
            })
            .await
        }),
        Command::Load(load) => {
            block_on_core(load.cpu, run_load(&load, async || connect(&load).await))
        }
    }
}

fn framed(stream: TcpStream) -> Framed<TcpStream, LengthDelimitedCodec> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
    Framed::new(stream, codec)
}

async fn connect(load: &Load) -> Result<Client> {
    let stream = TcpStream::connect(load.addr).await?;
    stream.set_nodelay(true)?;
    let transport = serde_transport::new(framed(stream), Bincode::default());
    Ok(Client(EchoClient::new(client::Config::default(), transport).spawn()))
}
