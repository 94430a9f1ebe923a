//! tokio without any RPC: the floor's echo as one writes it on tokio, a task per connection. It uses the floor's
//! frames, so the floor's load generator drives it.

use anyhow::Result;
use bytes::{Buf as _, BytesMut};
use clap::Parser;
use corewire_bench_peers::{MAX_BODY, Serve, accept_until_told, block_on_core, listen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PREFIX: usize = 4;
/// Room for a few large frames, as in the floor's buffer.
const READ: usize = 256 << 10;

/// Echo length-prefixed frames on tokio
#[derive(Debug, Parser)]
enum Arguments {
    /// Echo what is sent
    Serve(Serve),
}

fn main() -> Result<()> {
    let Arguments::Serve(serve) = Arguments::parse();
    block_on_core(serve.cpu, async {
        let listener = listen(serve.addr).await?;
        accept_until_told(listener, |stream| {
            // A broken connection concerns nobody else; its peer sees it closed.
            tokio::task::spawn_local(async move { echo(stream).await.ok() });
        })
        .await
    })
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        let whole = whole_frames(&buffer)?;
        if whole > 0 {
            stream.write_all(&buffer[..whole]).await?;
            buffer.advance(whole);
        }
        buffer.reserve(READ / 2);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// How many of the first bytes are whole frames.
fn whole_frames(buffer: &[u8]) -> Result<usize> {
    let mut whole = 0;
    while let Some((prefix, rest)) = buffer[whole..].split_first_chunk::<PREFIX>() {
        let body = u32::from_le_bytes(*prefix) as usize;
        anyhow::ensure!(body <= MAX_BODY, "a body of {body} bytes is too large");
        if rest.len() < body {
            break;
        }
        whole += PREFIX + body;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_whole_frames_count() {
        let bytes = [1, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0, 7];
        let whole: Vec<usize> =
            (0..=bytes.len()).map(|end| whole_frames(&bytes[..end]).unwrap()).collect();
        assert_eq!(whole, [0, 0, 0, 0, 0, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9]);
        assert!(whole_frames(&[1, 0, 0, 1]).is_err());
    }
}
