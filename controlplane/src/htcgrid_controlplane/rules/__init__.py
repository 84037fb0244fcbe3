"""The rules for sessions, accounts and dead letters: pure functions and values, without AWS."""
