"""Whether tests try everything, as `make test-thorough` asks, or a part that takes minutes."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("PROBE_TEST_THOROUGH"))
