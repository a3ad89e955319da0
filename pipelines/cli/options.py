"""What all commands share: common options, error handling and exit statuses."""

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from vigil.features.errors import VigilError
from vigil.features.extras import MissingExtraError
from vigil.pipelines.environment import DEBUG, is_debugging, prepare_process
from vigil.pipelines.home import Home

HomePath = Annotated[Path, typer.Option("--home", help="Directory that holds everything of one installation.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file, as JSON.")]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        help="Data source: simulated (default), cinc2019, cinc2012, eicu_sepsis, eicu_aki, ahe2009; meds, omop: an export of "
        "Vigil, or another data set of that format; fhir: a FHIR export; table: any, by --mapping.",
    ),
]
Mapping = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        help="What the columns of your own tables are, as TOML; or mimic4, eicu, omop, meds, mimic4_meds. With fhir: its "
        "settings.",
    ),
]
TaskFile = Annotated[
    Path | None,
    typer.Option("--task", help="Task file of ACES (.yaml), in place of the mapping's task; the mapping names [events]."),
]
Data = Annotated[Path | None, typer.Option("--data", help="File or folder of the data; the simulated ward needs none.")]

DEFAULT_HOME: Final = Path(".vigil")
OUT: Final = Console(markup=False)  # texts may hold names that callers chose, and brackets in them are not markup
DEFECT_STATUS: Final = 70  # EX_SOFTWARE of sysexits.h
EXIT_1_MEANINGS: Final = {  # what exit status 1 means, for the commands that use it
    "ingest": "no reading can be used",
    "cohort check": "no reading can be used",
    "score": "readings were left out",
    "drift": "the data or the model drifted: the change control plan asks for an action",
    "reproduce": "a prediction differs",
    "clock": "readings were recorded while the clock was ahead",
    "upgrade": "with `--check`: the home needs an upgrade",
}
_UNSUITABLE_CHARACTERS: Final = set("$*?[]{}\n")


@contextmanager
def job(home_path: Path, *results: Path | None) -> Iterator[Home]:
    """Prepare the process, check the paths, and yield the home; report an error as in :func:`reported_errors`.

    Args:
        home_path: of the home, which need not exist yet.
        results: files that the command will write. Their folders must exist, so that no work is lost at its end.
    """
    with reported_errors(*results):
        _check_home_path(home_path)
        yield Home(home_path)


@contextmanager
def reported_errors(*results: Path | None) -> Iterator[None]:
    """Prepare the process; report any error as one line and an exit status.

    The status is that of a :class:`VigilError`, usually 2, and :data:`DEFECT_STATUS` for a defect in Vigil. Status 1 is
    reserved for results (:data:`EXIT_1_MEANINGS`). With ``VIGIL_DEBUG=1`` a defect also prints its traceback.
    """
    prepare_process()
    try:
        _check_results(results)
        yield
    except ModuleNotFoundError as error:
        typer.echo(
            f"vigil: {error.name} is not installed; this command needs more libraries: pip install 'vigil[service]'", err=True
        )
        sys.exit(MissingExtraError.exit_status)
    except VigilError as error:
        typer.echo(f"vigil: {error}", err=True)
        sys.exit(error.exit_status)
    except Exception as error:  # noqa: BLE001 - its message may hold patients' data, so only its type and line are shown
        if is_debugging():
            traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        typer.echo(
            f"vigil: unexpected {type(error).__name__} at {frame.filename}:{frame.lineno} in {frame.name}; this is a defect in "
            f"Vigil; set {DEBUG}=1 to see more, which may include patients' data",
            err=True,
        )
        sys.exit(DEFECT_STATUS)


def _check_home_path(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise VigilError(f"--home {path}: a file; expected a folder, or a path where one can be made")
    if unsuitable := sorted(set(str(path.resolve())) & _UNSUITABLE_CHARACTERS):
        raise VigilError(
            f"--home {path}: holds {' '.join(map(repr, unsuitable))}, which Feast and DuckDB read as a pattern or a variable; "
            "choose another path"
        )


def _check_results(paths: Iterable[Path | None]) -> None:
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise VigilError(f"{path}: its folder does not exist; make it first")


def write(to: Path | None, result: dict[str, Any]) -> None:
    """Write a result as JSON, if ``--json`` asks for it."""
    if to is not None:
        from vigil.pipelines.results import write_json

        write_json(to, result)


def write_page(option: str, path: Path, page: str) -> None:
    """Write a page where an option asks for it.

    Raises:
        VigilError: the folder does not exist.
    """
    if not path.parent.is_dir():
        raise VigilError(f"{option} {path}: its folder does not exist; make it first")
    path.write_text(page)


def exit_table() -> str:
    """Return the exit statuses as a Markdown table, for the documentation."""
    results = "; ".join(f"`vigil {command}`: {meaning}" for command, meaning in EXIT_1_MEANINGS.items())
    meanings = {
        0: "done, and all is well",
        1: f"done, with a result to look at. {results}",
        2: "not done: an option, a file or the home is not as expected. One line says what to do. No decision was changed",
        3: "`vigil drift` only: the model is withdrawn, or nothing can be judged. NEWS2 is given",
        DEFECT_STATUS: f"a defect in Vigil; `{DEBUG}=1` shows more of it",
    }
    return "\n".join(
        ["| status | meaning |", "| --- | --- |", *(f"| {status} | {meaning} |" for status, meaning in meanings.items())]
    )
