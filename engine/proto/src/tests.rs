//! Pair tests: two connections joined by in-memory queues under a virtual clock.
