"""Properties have no deadline: they may run on a processor that others leave idle (tools/run_tests.py), or beside others."""

from hypothesis import settings

settings.register_profile("timeless", deadline=None)
settings.load_profile("timeless")
