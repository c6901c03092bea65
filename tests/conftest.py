"""Properties have no deadline: a processor may be left to them only while others are idle (tools/run_tests.py)."""

from hypothesis import settings

settings.register_profile("timeless", deadline=None)
settings.load_profile("timeless")
