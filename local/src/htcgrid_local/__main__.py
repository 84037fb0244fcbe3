"""`python -m htcgrid_local`: the commands without the connector's command line around them."""

from htcgrid_local.commands import app

app(prog_name="htcgrid local")
