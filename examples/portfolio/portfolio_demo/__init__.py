"""The pieces of the portfolio demo: what comes before the grid (book, tasks) and after it (report, comparison)."""
