"""Run the long tests: ``python -m tests.soak [kills|fhir|bodies|schema|attacks ...] [--kills N] [--bodies N] [--size X]``."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.attacks import run as run_attacks
from tests.soak.attacks import table
from tests.soak.fhir_kill import kill_while_fhir_clients_send
from tests.soak.fuzz import fuzz
from tests.soak.home import TASK, copy_home, make_home, token_for
from tests.soak.kill import kill_often
from tests.soak.schema import check_schema
from vigil.pipelines.environment import prepare_process
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import running_server

BEGIN, END = "<!-- attacks -->", "<!-- end of attacks -->"
MAX_FAULTS_SHOWN = 20  # for each part


def kills(home: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Kill the server often, and check that nothing is lost."""
    report = kill_often(home, options.kills, options.seed)
    back = [f"{name} back in {statistics.median(times):.0f} s" for name, times in report.back.items() if times]
    kills_of = ", ".join(f"{n} {victim}" for victim, n in report.kills.items())
    sent = f"{report.readings:,} readings, {report.resent} requests sent again, {report.alarms} alarms"
    return "; ".join([f"{kills_of}, {report.during_start} of them during a start", sent, *back]), report.faults


def fhir(home: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Kill the server often while FHIR clients that others wrote send Observations."""
    report = kill_while_fhir_clients_send(home, options.kills, options.seed)
    kills_of = ", ".join(f"{n} {victim}" for victim, n in report.kills.items())
    sent = ", ".join(f"{n:,} Observations of {name}" for name, n in report.acknowledged.items())
    return f"{kills_of}; acknowledged: {sent}", report.faults


def bodies(home: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Send invalid requests."""
    with running_server(Home(home), TASK) as url:
        report = fuzz(url, token_for(home), home, bodies=options.bodies, seed=options.seed)
    statuses = ", ".join(f"{n:,} x {status}" for status, n in sorted(report.statuses.items()))
    return f"{statuses}; readings and patients in them: {dict(report.readings)}", report.faults


def schema(home: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Check the API against its OpenAPI document."""
    with running_server(Home(home), TASK) as url:
        passed, output = check_schema(
            url, token_for(home), examples=options.examples, seconds=options.seconds, seed=options.seed, folder=home
        )
    cases = [line.strip() for line in output.splitlines() if "generated" in line and "passed" in line]
    return ", ".join(cases[-1:]) or "failures", [] if passed else [output]


def attacks(home: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    """Repeat the attacks of a security review. ``--write`` stores the table in a page."""
    outcomes = run_attacks(home, options.size)
    if options.write is not None:
        page = options.write.read_text()
        before, _, rest = page.partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{rest.partition(END)[2]}")
    faults = [f"{name}: {outcome.attempt}: {outcome.result}" for name, outcome in outcomes.items() if not outcome.held]
    return "\n  " + "\n  ".join(f"{name}: {outcome.result}" for name, outcome in outcomes.items()), faults


PARTS: dict[str, Callable[[Path, argparse.Namespace], tuple[str, list[str]]]] = {
    "kills": kills, "fhir": fhir, "bodies": bodies, "schema": schema, "attacks": attacks
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Kill, fuzz and attack a server, and check it against its OpenAPI document. A fault gives exit status 1.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts to run: {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--kills", type=int, default=100, help="how often the parts kills and fhir kill a process (default: %(default)s)"
    )
    parser.add_argument("--bodies", type=int, default=20_000, help="requests of the part bodies (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="examples of each operation in the part schema")
    parser.add_argument("--seconds", type=int, default=600, help="how long the part schema generates examples")
    parser.add_argument("--size", type=float, default=1.0, help="size of the attacks; 1 is that of the review")
    parser.add_argument("--write", type=Path, help="page in which to replace the table of attacks")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="a home with a champion, which is copied; default: make one")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: expected one or more of {', '.join(PARTS)}")
    prepare_process()
    failed = False
    with tempfile.TemporaryDirectory(prefix="vigil-soak-") as folder:
        ward = options.home or make_home(Path(folder) / "ward")
        for name in options.parts or PARTS:
            started = time.monotonic()
            summary, faults = PARTS[name](copy_home(ward, Path(folder) / name), options)
            failed = failed or bool(faults)
            verdict = f"{len(faults)} FAULTS" if faults else "nothing found"
            sys.stdout.write(
                "\n  ".join([f"{name}: {verdict}; {summary}; {time.monotonic() - started:.0f} s", *faults[:MAX_FAULTS_SHOWN]])
                + "\n"
            )
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
