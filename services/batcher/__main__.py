"""Starts the batcher: settings, then this process becomes Envoy, which loads `services.batcher.app`."""

from services.batcher.app_envoy import become_envoy
from services.batcher.settings import BatcherSettings
from services.common.settings import load
from services.common.telemetry.logging import configure_logging

if __name__ == "__main__":
    loaded = load(BatcherSettings)
    configure_logging(service="batcher", instance=loaded.instance, level=loaded.log_level)
    become_envoy(loaded)
