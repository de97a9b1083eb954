"""The decisions: pure code, without await, clock, randomness, logging or I/O. Time and a `Random` are arguments."""
