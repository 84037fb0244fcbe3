"""Which task runs on which worker, and what happens when a worker fails."""
