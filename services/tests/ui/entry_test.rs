//! What `#[corewire::test]` refuses. Each at its token.

use corewire::testing::Simulation;

#[corewire::test(seeds = 10)]
async fn seeds_without_a_simulation() {}

#[corewire::test(seeds = 0)]
async fn no_seeds(_sim: Simulation) {}

#[corewire::test(seed = 10)]
async fn another_option(_sim: Simulation) {}

#[corewire::test]
#[test]
async fn twice() {}

#[corewire::test]
async fn two(_one: Simulation, _other: Simulation) {}

#[corewire::test]
fn sync() {}

fn main() {
    let _ = |_: Simulation| {};
}
