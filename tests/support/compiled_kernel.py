"""Compile the kernel once for all test processes: in a new clone that takes half a minute of a processor, in each of them.

The process that distributes tests starts this module while the others collect. They wait for its end before their first test.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from tests.support import ROOT


def start_compiling() -> tuple["subprocess.Popen[bytes]", Path]:
    """Compile in a process of its own; return it and the file that it locks until the end."""
    descriptor, lock = tempfile.mkstemp(prefix="vigil-kernel-", suffix=".lock")
    os.close(descriptor)
    return subprocess.Popen([sys.executable, "-m", __name__, lock], cwd=ROOT), Path(lock)


def _compile() -> None:
    import pandas as pd

    from vigil.features.batch import build_features
    from vigil.features.observations import check

    at = pd.Timestamp("2026-01-31T08:00:00Z")
    frame = pd.DataFrame({"subject_id": ["a"], "observed_at": at, "signal": "heart_rate", "value": 80.0})
    index = pd.DataFrame({"subject_id": ["a"], "index_time": at + pd.Timedelta(hours=2), "age": 70.0, "sex": 1.0})
    build_features(check(frame).accepted, index.assign(unit_admitted_at=at, hospital_admitted_at=at), ("vital_signs",))


if __name__ == "__main__":
    with FileLock(sys.argv[1]):
        _compile()
