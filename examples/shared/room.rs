//! Services that stream: a room to talk in, a log to follow, and a place for files.

use corewire::{Bytes, Context, Status, StreamSender, Streaming, spawn};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A room on each shard: members hear those who are connected to the same shard.
#[corewire::service]
pub trait Room {
    /// Joins under a name: the caller's lines go to everybody, and everybody's come back.
    async fn join(
        &self,
        name: String,
        lines: Streaming<String>,
    ) -> Result<Streaming<String>, Status>;
}

/// Lines that a member may be behind; a member further behind misses some.
const BEHIND_MAX: usize = 256;

/// One member: the lines waiting to be sent to it, and the task that waits for them.
#[derive(Debug, Default)]
struct Member {
    lines: VecDeque<String>,
    waker: Option<std::task::Waker>,
    gone: bool,
}

type Members = Rc<RefCell<Vec<Rc<RefCell<Member>>>>>;

/// One shard's room.
#[derive(Debug, Default)]
pub struct Talk {
    members: Members,
}

/// Tells everybody.
fn tell(members: &Members, line: &str) {
    members.borrow_mut().retain(|member| !member.borrow().gone);
    for member in &*members.borrow() {
        let mut member = member.borrow_mut();
        if member.lines.len() < BEHIND_MAX {
            member.lines.push_back(line.to_owned());
        }
        if let Some(waker) = member.waker.take() {
            waker.wake();
        }
    }
}

/// Sends a member its lines, until it leaves.
async fn follow(member: Rc<RefCell<Member>>, mut sender: StreamSender<String>) {
    loop {
        let line = std::future::poll_fn(|context| {
            let mut member = member.borrow_mut();
            match member.lines.pop_front() {
                Some(line) => std::task::Poll::Ready(Some(line)),
                None if member.gone => std::task::Poll::Ready(None),
                None => {
                    member.waker = Some(context.waker().clone());
                    std::task::Poll::Pending
                }
            }
        });
        let Some(line) = line.await else { break };
        if sender.send(line).await.is_err() {
            break;
        }
    }
    member.borrow_mut().gone = true;
}

impl Room for Talk {
    async fn join(
        &self,
        name: String,
        mut lines: Streaming<String>,
    ) -> Result<Streaming<String>, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("a member has a name"));
        }
        let (sender, stream) = Streaming::channel();
        let member = Rc::new(RefCell::new(Member::default()));
        self.members.borrow_mut().push(Rc::clone(&member));
        spawn(follow(Rc::clone(&member), sender)).detach();
        let members = Rc::clone(&self.members);
        tell(&members, &format!("* {name} joins"));
        // The task lives as long as its caller streams: when the call ends, so does the stream, and with it
        // the task.
        spawn(async move {
            while let Some(Ok(line)) = lines.next().await {
                tell(&members, &format!("{name}: {line}"));
            }
            tell(&members, &format!("* {name} leaves"));
            let waker = {
                let mut member = member.borrow_mut();
                member.gone = true;
                member.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        })
        .detach();
        Ok(stream)
    }
}

/// A log that clients follow.
#[corewire::service]
pub trait Journal {
    /// Adds a line; there is no reply.
    #[one_way]
    async fn note(&self, line: String);
    /// The lines from this number on, those to come as well, each with its number.
    async fn tail(&self, from: u64) -> Result<Streaming<(u64, String)>, Status>;
}

/// One shard's lines, and the readers waiting for more.
#[derive(Debug, Default)]
pub struct Lines {
    shared: Rc<RefCell<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    waiting: Vec<std::task::Waker>,
}

impl Journal for Lines {
    async fn note(&self, line: String) {
        let waiting = {
            let mut written = self.shared.borrow_mut();
            written.lines.push(line);
            std::mem::take(&mut written.waiting)
        };
        waiting.into_iter().for_each(std::task::Waker::wake);
    }

    async fn tail(&self, from: u64) -> Result<Streaming<(u64, String)>, Status> {
        let shared = Rc::clone(&self.shared);
        let mut next = usize::try_from(from).map_err(|_| Status::out_of_range("no such line"))?;
        // Its credit paces the stream: a line is read only when its caller takes it.
        Ok(Streaming::from_stream(futures_lite::stream::poll_fn(move |context| {
            let mut written = shared.borrow_mut();
            let Some(line) = written.lines.get(next).cloned() else {
                written.waiting.push(context.waker().clone());
                return std::task::Poll::Pending;
            };
            let number = next as u64;
            next += 1;
            std::task::Poll::Ready(Some(Ok((number, line))))
        })))
    }
}

/// Takes files.
#[corewire::service]
pub trait Depot {
    /// Takes the parts of a file, and its label as the call's attachment; returns how many bytes the
    /// parts had, and the hash of label and parts (FNV-1a, 64 bits).
    async fn upload(
        &self,
        context: &Context,
        name: String,
        parts: Streaming<Bytes>,
    ) -> Result<(u64, u64), Status>;
}

/// One shard's depot. It keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scales;

/// FNV-1a of more bytes.
#[must_use]
pub fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// FNV-1a of nothing.
pub const FNV: u64 = 0xcbf2_9ce4_8422_2325;

impl Depot for Scales {
    async fn upload(
        &self,
        context: &Context,
        name: String,
        mut parts: Streaming<Bytes>,
    ) -> Result<(u64, u64), Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("a file has a name"));
        }
        let (mut bytes, mut hash) = (0, fnv(FNV, context.attachment()));
        while let Some(part) = parts.next().await {
            let part = part?;
            bytes += part.len() as u64;
            hash = fnv(hash, &part);
        }
        Ok((bytes, hash))
    }
}
