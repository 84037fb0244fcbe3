"""HTTP, the grid's API as typed calls, and sign-in."""
