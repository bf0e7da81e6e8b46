"""The applications that the bridge loads into Envoy: `services.batcher.app:app`, the batcher, and
`services.batcher.app:operations`, what operators ask of one that a gateway carries."""

from services.batcher.faces.application import Application
from services.batcher.faces.operations import Operations
from services.batcher.settings import BatcherSettings
from services.batcher.wiring import Batcher, build
from services.common.clock import SystemClock
from services.common.settings import load
from services.common.telemetry.logging import configure_logging


def _built() -> Batcher:
    settings = load(BatcherSettings)
    configure_logging(service="batcher", instance=settings.instance, level=settings.log_level)
    return build(settings, clock=SystemClock())


app = Application(_built)
operations = Operations(app)
