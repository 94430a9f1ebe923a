//! How services are made, and what layers and callers' contexts hand on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use corewire::layer::{CallView, Layer};
use corewire::{CallOptions, Context, Placement, Server, ServerBuilder, StartError, Status, sleep};
use std::error::Error;
use std::time::Duration;
use support::{address, client, end};

/// Says who calls it, and asks the next of its kind.
#[corewire::service]
pub trait Who {
    /// The caller's name as the layer found it, and the metadata `tenant` and `token`.
    async fn am_i(&self, context: &Context) -> Result<Vec<Option<String>>, Status>;
    /// The same from the server behind this one, which gets `tenant` only.
    async fn behind(&self, context: &Context) -> Result<Vec<Option<String>>, Status>;
}

struct Asked {
    next: Option<WhoClient>,
}

/// Who calls, as a layer found out. Only this program can make one.
struct Caller(String);

impl Who for Asked {
    async fn am_i(&self, context: &Context) -> Result<Vec<Option<String>>, Status> {
        let text = |key| context.metadata().text(key).map(str::to_owned);
        let caller = context.extension::<Caller>().map(|caller| caller.0.clone());
        assert!(context.extension::<String>().is_none());
        Ok(vec![caller, text("tenant"), text("token")])
    }

    async fn behind(&self, context: &Context) -> Result<Vec<Option<String>>, Status> {
        let next = self.next.as_ref().ok_or_else(|| Status::failed_precondition("the last"))?;
        let chosen = CallOptions::new().metadata_of(context, &["tenant", "absent"])?;
        Ok(next.in_context(context).with(chosen).am_i().await?)
    }
}

/// Looks up the name that belongs to a token.
struct Names;

impl Layer for Names {
    type Guard = ();

    fn begin(&self, call: &mut CallView<'_>) -> Result<(), Status> {
        if let Some(token) = call.metadata().text("token") {
            let name = Caller(format!("the one with {token}"));
            call.insert(name);
        }
        Ok(())
    }
}

fn builder() -> ServerBuilder {
    Server::builder().address("127.0.0.1:0").placement(Placement::Unpinned(2)).layer(|_| Names)
}

#[test]
fn a_factory_awaits_and_connects_and_chosen_metadata_goes_on() {
    let last = builder().service(|_| WhoServer::new(Asked { next: None })).start().unwrap();
    let behind = address(&last);
    let first = builder()
        .service_with(move |_| async move {
            sleep(Duration::from_millis(1)).await;
            let next = WhoClient::connect(behind).await?;
            Ok::<_, corewire::ConnectError>(WhoServer::new(Asked { next: Some(next) }))
        })
        .start()
        .unwrap();
    let to = address(&first);
    let (here, there) = client(move || async move {
        let options = CallOptions::new().metadata("tenant", b"blue").unwrap();
        let options = options.metadata("token", b"7").unwrap();
        let client = WhoClient::connect(to).await.unwrap().with(options);
        (client.am_i().await.unwrap(), client.behind().await.unwrap())
    });
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(here, [text("the one with 7"), text("blue"), text("7")]);
    assert_eq!(there, [None, text("blue"), None]);
    end(first);
    end(last);
}

#[test]
fn a_factory_that_fails_keeps_the_server_from_starting_and_its_error_is_kept() {
    let fails = |shard: corewire::ShardInfo| async move {
        sleep(Duration::from_millis(1)).await;
        match shard.id.0 {
            0 => Ok(WhoServer::new(Asked { next: None })),
            _ => Err(std::io::Error::other("the table 'prices' is locked")),
        }
    };
    let error = builder().service_with(fails).start().unwrap_err();
    assert!(matches!(error, StartError::Shard { shard: 1, .. }), "{error}");
    assert!(error.to_string().contains("the table 'prices' is locked"), "{error}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("the table 'prices' is locked"), "{source}");

    let panics = |_| async {
        sleep(Duration::from_millis(1)).await;
        assert!(std::env::args().count() == 0, "no configuration");
        Ok::<_, std::io::Error>(WhoServer::new(Asked { next: None }))
    };
    let error = builder().service_with(panics).start().unwrap_err().to_string();
    assert!(error.contains("panicked: no configuration"), "{error}");
}
