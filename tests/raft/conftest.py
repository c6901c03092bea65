"""Properties of the core have no deadline: they may run on a processor that others leave idle (tools/run_tests.py)."""

from hypothesis import settings

settings.register_profile("timeless", deadline=None)
settings.load_profile("timeless")
