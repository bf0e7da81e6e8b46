"""A process that makes forecasts: series as JSON on its standard input, outlooks on its standard output, then it ends.

`python -m services.deployer.adapters.forecast_process`
"""

import dataclasses
import json
import os
import sys

from services.deployer.domain.seasonal import outlook

_NICENESS = 10


def main() -> int:
    """Lower than whatever serves."""
    os.nice(_NICENESS)
    asked = json.load(sys.stdin)
    found = [dataclasses.asdict(outlook(series, day=asked["day"])) for series in asked["series"]]
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
