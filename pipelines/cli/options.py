"""What every command shares: where it works, where it writes, and how it fails."""

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from features.errors import VigilError
from pipelines.environment import DEBUG, settle, wants_tracebacks

Home = Annotated[Path, typer.Option("--home", help="Where everything lives.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result here, for programs.")]
SourceName = Annotated[
    str, typer.Option("--source", help="Data source: simulated, cinc2019, cinc2012, eicu_sepsis, eicu_aki or ahe2009.")
]
Data = Annotated[Path | None, typer.Option("--data", help="Path of the data; the simulated ward needs none.")]

DEFAULT_HOME: Final = Path(".vigil")
OUT: Final = Console(markup=False)  # what is printed may hold names that callers chose
FAULT: Final = 70  # EX_SOFTWARE of sysexits.h
FOUND: Final = {  # what 1 says, of those commands that find something
    "ingest": "no reading can be used",
    "score": "readings had to be left out",
    "drift": "drift: the plan asks for something",
    "replay": "a prediction is not the same",
    "clock": "readings were recorded while the clock was ahead",
    "upgrade": "with `--check`: something is to be done",
}
_ODD: Final = set("$*?[]{}\n")


@contextmanager
def job(home: Path | None, *results: Path | None) -> Iterator[None]:
    """The environment of a job. Whatever goes wrong is one line and an exit status: 2, or that of the error.

    1 is kept for what a job found, and :data:`FAULT` for a fault of ours, of which ``VIGIL_DEBUG=1`` shows the traceback.
    """
    settle()
    try:
        _check_paths(home, results)
        yield
    except VigilError as error:
        typer.echo(f"vigil: {error}", err=True)
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - its message may hold a patient's data, so only type and place are shown
        if wants_tracebacks():
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        typer.echo(
            f"vigil: unexpected {type(error).__name__} at {place.filename}:{place.lineno} in {place.name}; this is a fault of "
            f"Vigil's; {DEBUG}=1 shows more, which may hold patients' data",
            err=True,
        )
        sys.exit(FAULT)


def _check_paths(home: Path | None, results: Iterable[Path | None]) -> None:
    """Before the work, not after it."""
    if home is not None and home.exists() and not home.is_dir():
        raise VigilError(f"--home {home}: a file; expected a folder, or a path where one can be made")
    if home is not None and (odd := sorted(set(str(home.resolve())) & _ODD)):
        raise VigilError(
            f"--home {home}: holds {' '.join(map(repr, odd))}, which Feast and DuckDB read as a pattern or a variable; choose "
            "another path"
        )
    for path in results:
        if path is not None and not path.parent.is_dir():
            raise VigilError(f"{path}: its folder does not exist; make it first")


def write(to: Path | None, result: dict[str, Any]) -> None:
    if to is not None:
        from pipelines.results import write_json

        write_json(to, result)


def exit_table() -> str:
    """The exit statuses in Markdown, for the documents."""
    found = "; ".join(f"`vigil {command}`: {what}" for command, what in FOUND.items())
    rows = {
        0: "done, and all is well",
        1: f"done, and something was found. {found}",
        2: "not done: an option, a file or the home is not as expected; one line says what to do; no verdict was changed",
        3: "`vigil drift` alone: broken; the model is withdrawn, or nothing can be said, and NEWS2 is given",
        FAULT: f"a fault of Vigil's; `{DEBUG}=1` shows more of it",
    }
    return "\n".join(["| status | says |", "| --- | --- |", *(f"| {status} | {says} |" for status, says in rows.items())])
