"""Grafana's dashboards, written into the chart: `python -m tools.grafana_dashboards [--check]`.

Out of code because a query of a percentile or of an error budget stands in one place, and because Grafana's own SDK
knows the schema. The chart hands them to Grafana's sidecar; deploy/grafana provisions the same files on one machine.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.grafana.batch import batch
from tools.grafana.model import model
from tools.grafana.platform import platform
from tools.grafana.rollout import rollout
from tools.grafana.tenant import tenant

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "helm" / "infermesh" / "dashboards"
FILES: Mapping[str, Callable[[], Dashboard]] = {
    "platform.json": platform,
    "model.json": model,
    "rollout.json": rollout,
    "batch.json": batch,
    "tenant.json": tenant,
}


def text_of(made: Dashboard) -> str:
    """As Grafana reads it."""
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def main() -> int:
    """Writes the files, or says which are stale."""
    parser = argparse.ArgumentParser(description="Grafana's dashboards into the chart")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as it would be")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    stale = [path.name for path in FOLDER.glob("*.json") if path.name not in FILES]
    for name in stale if not check else ():
        (FOLDER / name).unlink()
    for name, made in FILES.items():
        path, text = FOLDER / name, text_of(made())
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if check and stale:
        print(f"stale: {', '.join(stale)}; run `make chart`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
