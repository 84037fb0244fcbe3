"""The event loop's thread, and helpers for coroutines."""
