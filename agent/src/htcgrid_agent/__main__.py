"""`python -m htcgrid_agent`."""

import sys

from htcgrid_agent.main import main

sys.exit(main())
