//! How much one turn of the shard does for all its connections, and who goes first.

use super::*;

/// Connections that send large calls and take no replies.
const GREEDY: usize = 40;

/// However many connections have much to do, a small call is answered in the turn in which it comes, and
/// that turn is short.
#[test]
fn a_small_call_goes_before_many_large_ones() {
    let mut bench = Bench::new(GREEDY + 1);
    let budgets = Budgets::default();
    for end in 0..GREEDY {
        bench.net.borrow_mut().ends[end].takes = Some(0);
        (0..4).for_each(|call| bench.call(end, call, 1 << 20));
    }
    // In its first turn a connection may be one with little to do.
    bench.turns(GREEDY);
    let most = budgets.shard_bytes_per_turn + 2 * budgets.receive_bytes;
    for call in 0..20 {
        bench.call(GREEDY, call, 64);
        let moved = bench.turn();
        assert_eq!(bench.reply(GREEDY), Some((call, 64)), "not in the turn in which it came");
        assert!(moved <= most, "{moved} bytes in one turn");
    }
    // Nobody is left behind.
    for _ in 0..4 * GREEDY {
        bench.turn();
    }
    for end in 0..GREEDY {
        assert!(bench.net.borrow().ends[end].input.len() < 7 << 19, "{end} was not read from");
    }
}

/// Calls in large numbers are bounded as bytes are.
#[test]
fn a_turn_handles_a_bounded_number_of_frames() {
    let mut bench = Bench::new(GREEDY);
    let budgets = Budgets::default();
    for end in 0..GREEDY {
        (0..300).for_each(|call| bench.call(end, call, 16));
    }
    let (mut left, mut first) = (vec![300; GREEDY], true);
    while left.iter().any(|left| *left > 0) {
        bench.turn();
        let mut handled = 0;
        for (end, left) in left.iter_mut().enumerate() {
            while bench.reply(end).is_some() {
                (*left, handled) = (*left - 1, handled + 1);
            }
        }
        assert!(handled > 0, "turns go on while something is left");
        // In its first turn each may be one with little to do.
        let first = std::mem::take(&mut first);
        let most = budgets.shard_frames_per_turn + budgets.frames_per_turn;
        assert!(first || handled <= most, "{handled} frames in one turn");
    }
}

/// A connection that always has something small to do does not stop one that moves much.
#[test]
fn small_calls_without_end_leave_large_ones_their_turns() {
    const SMALL: usize = 40;
    let mut bench = Bench::new(SMALL + 1);
    bench.call(SMALL, 7, 8 << 20);
    let mut turns = 0;
    while bench.reply(SMALL).is_none() {
        for end in 0..SMALL {
            (0..20).for_each(|call| bench.call(end, call, 16));
        }
        bench.turn();
        for end in 0..SMALL {
            while bench.reply(end).is_some() {}
        }
        turns += 1;
        assert!(turns < 1000, "the large call is not over after {turns} turns");
    }
}
