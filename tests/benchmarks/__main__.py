"""Run the benchmarks and rewrite docs/benchmarks.md: ``python -m tests.benchmarks [--cinc2019 ZIP] [--meds-tab BIN]``."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.measure import Section
from vigil.pipelines.environment import prepare_process

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
SET_A = ROOT.parent / "shared" / "data" / "cinc2019" / "training_setA.zip"  # its path in continuous integration
INTRODUCTION = """# Benchmarks

Written by `make bench` (`python -m tests.benchmarks --help`) on {cores} cores, Python {python}; each section says when. Vigil
and the alternative ran in turn, in one run on the same machine. A ratio is the median over the rounds, with its range. The
machine is shared and noisy, so read ratios, not seconds. No test asserts these figures.
"""


def sections(cinc2019: Path | None, meds_tab: Path | None, seconds: float) -> dict[str, Callable[[], Section]]:
    """Return the functions that measure each section, by name."""
    from tests.benchmarks.alternatives import alternatives
    from tests.benchmarks.api import api_section
    from tests.benchmarks.cards import cards_section
    from tests.benchmarks.cohort import cinc2019_section, ward_section
    from tests.benchmarks.drift import drift_section
    from tests.benchmarks.drift_speed import speed_section
    from tests.benchmarks.exports import exports_section
    from tests.benchmarks.fhir import fhir_section
    from tests.benchmarks.kernel import kernel_section
    from tests.benchmarks.label_free import label_free_section
    from tests.benchmarks.large_cohort import large_cohort_section
    from tests.benchmarks.online import online_section
    from tests.benchmarks.profile import profile_section
    from tests.benchmarks.start import start_section
    from tests.benchmarks.stopped_signals import stopped_signals_section

    by_name: dict[str, Callable[[], Section]] = {"kernel": kernel_section, "online": online_section, "ward": ward_section}
    by_name["drift_speed"] = speed_section
    by_name["stopped_signals"] = stopped_signals_section
    by_name["fhir"] = fhir_section
    by_name["cards"] = cards_section
    by_name["exports"] = exports_section
    by_name["api"] = lambda: api_section(seconds)
    by_name["profile"] = profile_section
    by_name["large_cohort"] = large_cohort_section
    by_name["start"] = start_section
    by_name["drift"] = lambda: drift_section(cinc2019)
    if cinc2019:
        by_name["cohort"] = lambda: cinc2019_section(cinc2019)
        by_name["label_free"] = lambda: label_free_section(cinc2019)
        by_name["alternatives"] = lambda: alternatives(cinc2019, meds_tab)
    return by_name


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Run the benchmarks and rewrite docs/benchmarks.md."
    )
    default = SET_A if SET_A.exists() else None
    parser.add_argument(
        "--cinc2019", type=Path, default=default, help="training_setA.zip; without it, sections on real stays are left out"
    )
    parser.add_argument(
        "--meds-tab",
        type=Path,
        help="bin folder of a separate virtual environment with meds-tab; without it, meds-tab is left out",
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long readings are sent in the section api (default: %(default)s)"
    )
    parser.add_argument("--only", help="name of one section to measure; the others stay as they are")
    options = parser.parse_args()
    prepare_process()
    by_name = sections(options.cinc2019, options.meds_tab, options.seconds)
    if options.only and options.only not in by_name:
        parser.error(f"--only {options.only}: expected one of {', '.join(by_name)}")
    page = PAGE.read_text().split("\n## ")[1:] if PAGE.exists() else []
    parts = {part.partition("\n")[0]: f"## {part}" for part in page}
    for name in [options.only] if options.only else by_name:
        sys.stderr.write(f"measuring {name} ...\n")
        section = by_name[name]()
        parts[section.title] = f"{section.markdown().rstrip()}\n\nMeasured on {datetime.now(UTC).date()}.\n"
        _write(parts)  # after each section, since a run that is cut off has measured something


def _write(parts: dict[str, str]) -> None:
    introduction = INTRODUCTION.format(cores=os.cpu_count(), python=platform.python_version())
    PAGE.write_text("\n".join(part.rstrip("\n") + "\n" for part in (introduction, *parts.values())))


if __name__ == "__main__":
    main()
