//! The decisions, one by one.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::Balance;
use super::decide::{Balancer, Move, ShardLoad, Step, max_over_mean};

fn shards(loads: &[f64]) -> Vec<ShardLoad> {
    loads.iter().map(|busy| ShardLoad { busy: *busy, takes: true, stuck: false }).collect()
}

/// Looks until it is to choose; `None` if it does not come to that.
fn until_choice(balancer: &mut Balancer, shards: &[ShardLoad]) -> Option<u32> {
    (0..20).find(|_| balancer.look(shards) == Step::Choose)
}

/// Connections of these weights on a shard of this load.
fn choose(balancer: &mut Balancer, own: f64, weights: &[f64]) -> Vec<Move> {
    balancer.choose(&weights.iter().map(|weight| weight / own).collect::<Vec<_>>())
}

/// One connection is all that a shard does, and the load falls while it is weighed.
#[test]
fn a_load_that_varies_moves_no_single_connection() {
    let mut balancer = Balancer::new(0);
    for load in [0.6, 0.6, 0.5, 0.5, 0.4, 0.4, 0.3, 0.3] {
        if balancer.look(&shards(&[load, 0.0])) == Step::Choose {
            assert_eq!(balancer.choose(&[1.0]), []);
            assert!(balancer.is_stuck());
            return;
        }
    }
    panic!("it was over all the time");
}

#[test]
fn texts_are_read_as_they_are_written() {
    for setting in [Balance::Off, Balance::Accept, Balance::Move] {
        assert_eq!(setting.to_string().parse(), Ok(setting));
    }
    for wrong in ["", "on", "restless", "Move"] {
        assert!(wrong.parse::<Balance>().is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn a_shard_acts_only_when_it_is_over_for_long() {
    let (even, over) = (shards(&[0.50, 0.48]), shards(&[0.9, 0.1]));
    let mut balancer = Balancer::new(0);
    assert_eq!(until_choice(&mut balancer, &even), None, "nothing to even");
    // One look in three is calm: it never lasts.
    for _ in 0..10 {
        assert_eq!(balancer.look(&over), Step::Rest);
        assert_eq!(balancer.look(&even), Step::Rest);
        assert_eq!(balancer.look(&shards(&[0.1, 0.9])), Step::Rest);
    }
    assert!(until_choice(&mut balancer, &over).unwrap() >= 3);
    assert_eq!(until_choice(&mut Balancer::new(1), &over), None, "it has less than its share");
    let little = shards(&[0.04, 0.0]);
    assert_eq!(until_choice(&mut Balancer::new(0), &little), None, "nobody waits for it");
}

#[test]
fn what_goes_brings_the_two_nearest_to_each_other() {
    let mut balancer = Balancer::new(0);
    until_choice(&mut balancer, &shards(&[0.9, 0.1])).unwrap();
    let moves = choose(&mut balancer, 0.9, &[0.05, 0.38, 0.47]);
    assert_eq!(moves.first(), Some(&Move { place: 1, to: 1 }));
    assert!(moves.len() == 1, "more would make the other one the busier: {moves:?}");
}

#[test]
fn one_large_connection_stays_and_the_shard_is_stuck() {
    let mut balancer = Balancer::new(0);
    until_choice(&mut balancer, &shards(&[0.9, 0.1])).unwrap();
    assert_eq!(choose(&mut balancer, 0.9, &[0.9]), []);
    assert!(balancer.is_stuck());
    until_choice(&mut balancer, &shards(&[0.9, 0.1])).unwrap();
    assert_eq!(choose(&mut balancer, 0.9, &[0.7, 0.2]), [Move { place: 1, to: 1 }]);
    assert!(!balancer.is_stuck());
}

#[test]
fn a_shard_that_takes_nothing_gets_nothing() {
    let mut loads = shards(&[0.9, 0.0, 0.3]);
    loads[1].takes = false;
    let mut balancer = Balancer::new(0);
    until_choice(&mut balancer, &loads).unwrap();
    let moves = choose(&mut balancer, 0.9, &[0.1; 9]);
    assert!(!moves.is_empty() && moves.iter().all(|it| it.to == 2), "{moves:?}");
    loads[2].takes = false;
    assert_eq!(until_choice(&mut Balancer::new(0), &loads), None, "nobody takes anything");
}

#[test]
fn givers_choose_different_takers() {
    let loads = shards(&[0.9, 0.8, 0.1, 0.2]);
    let targets: Vec<usize> = (0..2)
        .map(|me| {
            let mut balancer = Balancer::new(me);
            until_choice(&mut balancer, &loads).unwrap();
            choose(&mut balancer, loads[me].busy, &[0.1])[0].to
        })
        .collect();
    assert_eq!(targets, [2, 3]);
}

#[test]
fn new_connections_go_elsewhere_while_a_shard_is_over() {
    let mut balancer = Balancer::new(0);
    assert_eq!(balancer.hand_off(4), None, "it has not looked");
    balancer.look(&shards(&[0.9, 0.1]));
    assert_eq!(balancer.hand_off(4), None, "it may be over in a moment");
    while balancer.look(&shards(&[0.9, 0.1])) == Step::Rest {}
    // Each counts as much as one of its own, until the next look: 0.1 + 0.225 × 2 is the mean.
    assert_eq!([(); 3].map(|()| balancer.hand_off(4)), [Some(1), Some(1), None]);
    balancer.look(&shards(&[0.9, 0.1]));
    assert_eq!(balancer.hand_off(4), Some(1));
}

#[test]
fn the_ratio_of_idle_shards_is_one() {
    assert!((max_over_mean([0.0, 0.0].into_iter()) - 1.0).abs() < f64::EPSILON);
    assert!((max_over_mean([0.9, 0.3].into_iter()) - 1.5).abs() < 1e-9);
}
