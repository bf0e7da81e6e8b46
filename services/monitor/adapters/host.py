"""What this host uses, out of /proc."""

import psutil

from services.monitor.domain.figures import Usage


class ProcHostProbe:
    """A `HostProbe`. GPUs cannot be read here, so their utilisation is 0: unknown and none look alike."""

    def sample(self) -> Usage:
        """CPU since the sample before, of all cores; memory that applications cannot get."""
        return Usage(cpu_percent=psutil.cpu_percent(interval=None), memory_percent=psutil.virtual_memory().percent)
