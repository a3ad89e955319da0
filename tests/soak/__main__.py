"""What takes long: ``python -m tests.soak [kills|bodies|schema|attacks ...] [--kills N] [--bodies N] [--size X]``."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.environment import settle
from pipelines.operations.server import running_server
from tests.soak.attacks import run as run_attacks
from tests.soak.attacks import table
from tests.soak.fuzz import fuzz
from tests.soak.home import TASK, copy_of, make_home, token_for
from tests.soak.kill import kill_often
from tests.soak.schema import check_schema

BEGIN, END = "<!-- attacks -->", "<!-- end of attacks -->"
SHOWN = 20  # faults of a part


def kills(home: Path, asked: argparse.Namespace) -> tuple[str, list[str]]:
    """Kill the server, and look what is left."""
    report = kill_often(home, asked.kills, asked.seed)
    back = [f"{name} back in {statistics.median(times):.0f} s" for name, times in report.back.items() if times]
    killed = ", ".join(f"{n} {victim}" for victim, n in report.kills.items())
    sent = f"{report.readings:,} readings, {report.resent} requests sent again, {report.alarms} alarms"
    return "; ".join([f"{killed}, {report.during_start} of them during a start", sent, *back]), report.faults


def bodies(home: Path, asked: argparse.Namespace) -> tuple[str, list[str]]:
    """Send nonsense."""
    with running_server(home, TASK) as url:
        report = fuzz(url, token_for(home), home, bodies=asked.bodies, seed=asked.seed)
    statuses = ", ".join(f"{n:,} x {status}" for status, n in sorted(report.statuses.items()))
    return f"{statuses}; readings and patients in them: {dict(report.readings)}", report.faults


def schema(home: Path, asked: argparse.Namespace) -> tuple[str, list[str]]:
    """Hold the API against its OpenAPI document."""
    with running_server(home, TASK) as url:
        kept, said = check_schema(
            url, token_for(home), examples=asked.examples, seconds=asked.seconds, seed=asked.seed, folder=home
        )
    cases = [line.strip() for line in said.splitlines() if "generated" in line and "passed" in line]
    return ", ".join(cases[-1:]) or "failures", [] if kept else [said]


def attacks(home: Path, asked: argparse.Namespace) -> tuple[str, list[str]]:
    """Repeat the attacks of a review; ``--write`` keeps the table."""
    outcomes = run_attacks(home, asked.size)
    if asked.write is not None:
        page = asked.write.read_text()
        before, _, rest = page.partition(BEGIN)
        asked.write.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{rest.partition(END)[2]}")
    faults = [f"{name}: {each.tried}: {each.found}" for name, each in outcomes.items() if not each.held]
    return "\n  " + "\n  ".join(f"{name}: {each.found}" for name, each in outcomes.items()), faults


PARTS: dict[str, Callable[[Path, argparse.Namespace], tuple[str, list[str]]]] = {
    "kills": kills, "bodies": bodies, "schema": schema, "attacks": attacks
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Kill, fuzz, and check against the document.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--bodies", type=int, default=20_000)
    parser.add_argument("--examples", type=int, default=100, help="of each operation, in the part schema")
    parser.add_argument("--seconds", type=int, default=600, help="for which the part schema goes on generating")
    parser.add_argument("--size", type=float, default=1.0, help="of attacks, 1: as the review had them")
    parser.add_argument("--write", type=Path, help="page whose table of attacks is made anew")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--home", type=Path, help="a home with a champion, which is copied; default: one is made")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    settle()
    failed = False
    with tempfile.TemporaryDirectory(prefix="vigil-soak-") as folder:
        ward = asked.home or make_home(Path(folder) / "ward")
        for name in asked.parts or PARTS:
            began = time.monotonic()
            done, faults = PARTS[name](copy_of(ward, Path(folder) / name), asked)
            failed = failed or bool(faults)
            verdict = f"{len(faults)} FAULTS" if faults else "nothing found"
            sys.stdout.write(
                "\n  ".join([f"{name}: {verdict}; {done}; {time.monotonic() - began:.0f} s", *faults[:SHOWN]]) + "\n"
            )
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
