"""Environments of FHIR clients and validators that others wrote: each its own, with pinned packages, kept between runs.

The pins are beside the programs in ``programs/``: ``NAME.txt`` of a virtual environment, ``package-lock.json`` of Node.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filelock import FileLock

PROGRAMS: Final = Path(__file__).parent / "programs"
_SECONDS: Final = 400  # for packages to arrive


class PeerError(Exception):
    """An environment cannot be had here: a program or the network is missing."""


def python_of(name: str) -> Path:
    """Return the interpreter of the virtual environment of a peer, and make the environment if there is none yet.

    Raises:
        PeerError: it cannot be made here.
    """
    pins = PROGRAMS / f"{name}.txt"
    folder = _folder(name, pins.read_bytes() + sys.version.encode())
    python = folder / "bin" / "python"

    def make() -> None:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(pins))

    _make_once(folder, make)
    return python


def node_folder() -> Path:
    """Return the folder with the packages of Node, made if there is none yet.

    Raises:
        PeerError: it cannot be made here.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise PeerError("node and npm are not at hand")
    lock = (PROGRAMS / "package-lock.json").read_bytes()
    folder = _folder("node", lock)

    def make() -> None:
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAMS / name, folder)
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)

    _make_once(folder, make)
    return folder


def command(name: str, program: str) -> list[str]:
    """Return the command that runs a program in the environment of a peer: ``node``, or the name of a file of pins.

    Raises:
        PeerError: the environment cannot be made here.
    """
    if name != "node":
        return [str(python_of(name)), str(PROGRAMS / program)]
    own = PROGRAMS / program
    digest = hashlib.blake2b(own.read_bytes(), digest_size=8).hexdigest()
    copy = node_folder() / f"{own.stem}-{digest}.mjs"  # Node looks for packages beside the program
    if not copy.exists():
        temporary = copy.with_suffix(f".{os.getpid()}")
        shutil.copy(own, temporary)
        temporary.replace(copy)
    return ["node", str(copy)]


def own_environment(**more: str) -> dict[str, str]:
    """Return the variables of a peer's process: what finds programs and files, and nothing of this one's."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | more


def _folder(name: str, pins: bytes) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vigil-peers" / f"{name}-{hashlib.blake2b(pins, digest_size=8).hexdigest()}"


def _make_once(folder: Path, make: Callable[[], None]) -> None:
    """Make an environment unless it is complete. Test processes that need it at once wait for each other."""
    done = folder.with_suffix(".complete")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if done.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        make()
        done.touch()


def _run(*command_: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command_, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{command_[0]}: {type(error).__name__}") from None
    if done.returncode != 0:
        raise PeerError((done.stderr or done.stdout).strip().splitlines()[-1])
