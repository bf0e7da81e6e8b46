"""`python -m services.supervisor`: the whole mesh on this machine, until Ctrl-C."""

import sys

from services.supervisor.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
