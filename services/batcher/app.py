"""The application that pyvoy loads into Envoy, as `services.batcher.app:app`."""

from services.batcher.faces.application import Application
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
