"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples each time, so that a red run can be run again; HYPOTHESIS_PROFILE=explore
# looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
