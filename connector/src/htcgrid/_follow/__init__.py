"""Following a session: collecting outcomes, fetching results, delivering them to futures and callbacks."""
