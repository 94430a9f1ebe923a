//! A table test over the four kinds of channel, each made from an address in words and a configuration.

/// Each scenario for each kind: it is called with what makes a channel of that kind.
#[macro_export]
macro_rules! kinds {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            use super::*;

            #[test]
            fn on_a_shard() {
                support::client(|| async {
                    super::$scenario(|to: &str, config| corewire::Channel::new(to, config)).await;
                });
            }
            #[test]
            fn from_a_thread() {
                let thread = corewire::ClientThread::start(corewire::ClientShard::default()).unwrap();
                let connect = |to: &str, config| thread.channel(to, config);
                futures_lite::future::block_on(super::$scenario(connect));
            }
            #[test]
            fn on_tokio() {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().unwrap().block_on(async {
                    let connect = |to: &str, config| corewire::SharedChannel::on_tokio(to, config);
                    super::$scenario(connect).await;
                });
            }
            #[test]
            fn blocking() {
                let connect = |to: &str, config| corewire::blocking::Channel::new(to, config);
                futures_lite::future::block_on(super::$scenario(connect));
            }
        }
    )* };
}
