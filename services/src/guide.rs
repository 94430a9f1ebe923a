//! The chapters of `docs/guide`: the documentation tests compile and run each of their programs.

#[doc = include_str!("../../docs/guide/1-first-service.md")]
mod first_service {}
#[doc = include_str!("../../docs/guide/2-messages.md")]
mod messages {}
#[doc = include_str!("../../docs/guide/3-errors-and-retries.md")]
mod errors_and_retries {}
#[doc = include_str!("../../docs/guide/4-deadlines-and-cancellation.md")]
mod deadlines_and_cancellation {}
#[doc = include_str!("../../docs/guide/5-streams.md")]
mod streams {}
#[doc = include_str!("../../docs/guide/6-state-and-cores.md")]
mod state_and_cores {}
#[doc = include_str!("../../docs/guide/7-blocking-and-tokio.md")]
mod blocking_and_tokio {}
#[doc = include_str!("../../docs/guide/8-shipping.md")]
mod shipping {}
#[doc = include_str!("../../docs/guide/9-testing.md")]
mod testing {}
