"""Import OpenVINO without its telemetry.

`import openvino` makes a client's number in the home folder and reports the import to Google
Analytics, unless somebody opted out before (openvino_telemetry 2025.2, `enable_opt_in_dialog=False`
in `openvino.tools.ovc`). Where the package is missing it takes a stub of its own that sends
nothing; so it does here.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"
_there = sys.modules.get(_TELEMETRY)
sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails
try:
    import openvino
    from openvino import op
finally:
    if _there is None:
        del sys.modules[_TELEMETRY]
    else:
        sys.modules[_TELEMETRY] = _there

__all__ = ["op", "openvino"]
