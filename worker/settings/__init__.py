"""Settings: outside text becomes values that cannot be wrong, once, before the first socket opens.

Environment first (`WORKER_` prefix, `__` between levels), then the TOML file named by `WORKER_CONFIG`, then defaults.
What is unknown is an error. Only `app`, `__main__` and `commands` see these objects; every other room gets its slice.
"""

from worker.settings.load import Platform, load, platform
from worker.settings.model import Settings

__all__ = ["Platform", "Settings", "load", "platform"]
