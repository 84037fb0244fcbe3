"""How sessions look: progress bars, drawings, and the HTML of notebooks."""
