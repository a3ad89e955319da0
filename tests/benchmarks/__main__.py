"""Run the benchmarks and rewrite docs/benchmarks.md: ``python -m tests.benchmarks [--cinc2019 ZIP] [--meds-tab BIN]``."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pipelines.environment import settle
from tests.benchmarks.measure import Section

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
SET_A = ROOT.parent / "shared" / "data" / "cinc2019" / "training_setA.zip"  # where continuous integration has it
INTRODUCTION = """# Benchmarks

Made by `make bench` (`python -m tests.benchmarks --help`) on {when}, {cores} cores, Python {python}. Ours and the other ran in
turn, in one run on the same machine; a ratio is the median over the rounds, with its spread. The machine is shared and noisy:
read ratios, not seconds. Nothing here is asserted by a test.
"""


def sections(cinc2019: Path | None, meds_tab: Path | None, seconds: float) -> dict[str, Callable[[], Section]]:
    """What can be measured, by name."""
    from tests.benchmarks.alternatives import alternatives
    from tests.benchmarks.api import api_section
    from tests.benchmarks.cohort import cinc2019_section, ward_section
    from tests.benchmarks.drift import drift_section
    from tests.benchmarks.drift_speed import speed_section
    from tests.benchmarks.estimated import estimated_section
    from tests.benchmarks.kernel import kernel_section
    from tests.benchmarks.online import online_section

    every: dict[str, Callable[[], Section]] = {"kernel": kernel_section, "online": online_section, "ward": ward_section}
    every["drift_speed"] = speed_section
    every["api"] = lambda: api_section(seconds)
    every["drift"] = lambda: drift_section(cinc2019)
    if cinc2019:
        every["cohort"] = lambda: cinc2019_section(cinc2019)
        every["estimated"] = lambda: estimated_section(cinc2019)
        every["alternatives"] = lambda: alternatives(cinc2019, meds_tab)
    return every


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure, and rewrite docs/benchmarks.md.")
    at_hand = SET_A if SET_A.exists() else None
    parser.add_argument("--cinc2019", type=Path, default=at_hand, help="training_setA.zip; without it real stays are left out")
    parser.add_argument(
        "--meds-tab", type=Path, help="bin folder of a virtual environment with meds-tab, which does not share ours"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for which readings become risks, in the section api")
    parser.add_argument("--only", help="measure one section anew, and leave the others as they are")
    asked = parser.parse_args()
    settle()
    every = sections(asked.cinc2019, asked.meds_tab, asked.seconds)
    if asked.only and asked.only not in every:
        parser.error(f"--only {asked.only}: expected one of {', '.join(every)}")
    page = PAGE.read_text().split("\n## ")[1:] if PAGE.exists() else []
    parts = {part.partition("\n")[0]: f"## {part}" for part in page}
    for name in [asked.only] if asked.only else every:
        sys.stderr.write(f"measuring {name} ...\n")
        section = every[name]()
        parts[section.title] = section.markdown()
    introduction = INTRODUCTION.format(when=datetime.now(UTC).date(), cores=os.cpu_count(), python=platform.python_version())
    PAGE.write_text("\n".join(part.rstrip("\n") + "\n" for part in (introduction, *parts.values())))


if __name__ == "__main__":
    main()
