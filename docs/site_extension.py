"""What the site shows beside its pages: navigation from their links, the commands, the OpenAPI document, and diagrams."""

import hashlib
import json
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import typer
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.nodes import make_refnode
from typer.cli import get_docs_for_click

from vigil.features.errors import VigilError
from vigil.pipelines.cli.main import app as commands
from vigil.serving.app import create_app

DOCS: Final = Path(__file__).parent
OPENAPI: Final = "openapi.json"

# The lists of these pages are the navigation: what they link is below them.
_PARTS: Final = tuple(f"docs/{name}" for name in ("index", "tutorials", "howto", "reference", "explanation"))
_LISTED: Final = re.compile(r"^- .*?\]\(([^)#]+\.(?:md|rst|ipynb))\)", flags=re.MULTILINE)
DIAGRAM: Final = re.compile(r"^```mermaid\n(.+?)^```$", flags=re.MULTILINE | re.DOTALL)
_ARRAY: Final = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[([^\[\]]+)\]\]")


def find_swagger() -> list[str]:
    """Return the files of the page that shows an OpenAPI document, as the server has them from BentoML."""
    bentoml = find_spec("bentoml")
    if bentoml is None or bentoml.origin is None:
        raise ExtensionError("bentoml: not installed; expected the locked environment; run make install")
    folder = Path(bentoml.origin).parent / "_internal" / "server" / "static_content"
    return [str(folder / name) for name in ("swagger-ui-bundle.js", "swagger-ui.css")]


def import_reference(_: Sphinx) -> None:
    """Import what the reference describes, before autodoc does so with ``TYPE_CHECKING``, under which FastAPI fails."""
    for page in sorted((DOCS / "reference").glob("*.rst")):
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", page.read_text(), flags=re.MULTILINE):
            pkgutil.resolve_name(name)


def complete_page(_: Sphinx, page: str, source: list[str]) -> None:
    """Complete a page before it is parsed."""
    text = DIAGRAM.sub(_picture, source[0])
    if page in _PARTS:
        text += "\n".join(("\n```{toctree}", ":hidden:", *_LISTED.findall(text), "```\n"))
    if page == "docs/commands":
        text += describe_commands()
    if page == "docs/openapi":
        text += _openapi_viewer()
    source[0] = text


def name_picture(diagram: str) -> str:
    """Return the file name of a diagram's picture."""
    return f"{hashlib.sha256(diagram.encode()).hexdigest()[:12]}.svg"


def _picture(diagram: re.Match[str]) -> str:
    name = name_picture(diagram[1])
    if not (DOCS / "pictures" / name).exists():
        raise ExtensionError(f"docs/pictures/{name}: missing; a diagram is new or changed; run: make pictures")
    return f"![The diagram that the page describes](pictures/{name})"


def describe_commands() -> str:
    """Return a section for each command, as its ``--help`` says it, in Markdown."""
    group: Any = typer.main.get_command(commands)
    group.commands = {name: command for name, command in group.commands.items() if not command.hidden}
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="vigil")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # cut off after a few words
    text = re.sub(r"(?<=[\s(])(--[a-z][a-z-]*)(?=[\s.,;:)])", r"`\1`", text)  # else its hyphens would become a dash
    return text[text.index("\n## ") :]


def _openapi_viewer() -> str:
    document = json.dumps(create_app().openapi()).replace("</", "<\\/")
    settings = f'{{spec: {document}, dom_id: "#openapi", supportedSubmitMethods: [], validatorUrl: null}}'
    return f"""
<p><a href="../{OPENAPI}">{OPENAPI}</a></p>
<link rel="stylesheet" href="../_static/swagger-ui.css">
<div id="openapi"></div>
<script src="../_static/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({settings})</script>
"""


def write_openapi(app: Sphinx, _: Exception | None) -> None:
    """Write the OpenAPI document beside the pages."""
    (Path(app.outdir) / OPENAPI).write_text(json.dumps(create_app().openapi(), indent=1))


def simplify_signature(
    _: Sphinx, _kind: str, _name: str, value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write arrays as code does, and leave out the signatures of models that are read from files: their fields say more."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        return "", None
    return tuple(text and _ARRAY.sub(r"~numpy.typing.NDArray[\1]", text) for text in (signature, returns))


def skip_inherited(_: Sphinx, _kind: str, name: str, _value: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out what scikit-learn and pydantic add to their subclasses."""
    return True if re.fullmatch(r"set_\w+_request|model_config", name) else None


def resolve_reference(app: Sphinx, env: BuildEnvironment, node: Any, shown: nodes.Element) -> nodes.Element | None:
    """Resolve a name as Python would. What exists without an entry, such as a constant, stays text; what does not is None."""
    if node.get("refdomain") != "py":
        return None
    target, module, owner = node["reftarget"], node.get("py:module"), node.get("py:class")
    home = getattr(_find(f"{module}.{owner or target}"), "__module__", module)  # of what is shown under another name
    scopes = (f"{module}.{owner}.{target}", f"{module}.{target}", f"{home}.{target}", target)
    found = next((value for scope in scopes if (value := _find(scope)) is not None), _errors().get(target))
    if found is None:
        return None
    name = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    entry = env.domains.python_domain.objects.get(name)
    return shown if entry is None else make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, name)


def _find(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _errors() -> dict[str, type[VigilError]]:
    """Return Vigil's errors by their names alone, as lists of what a function raises have them."""
    found: dict[str, type[VigilError]] = {}
    below = [VigilError]
    while below:
        error = below.pop()
        found[error.__name__] = error
        below += error.__subclasses__()
    return found


def _read_whole(docstring: Any) -> tuple[str, list[str]]:
    return "", docstring._dedent(docstring._consume_to_end())  # noqa: SLF001 - a method of that class


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all this to a build."""
    # Napoleon would take what stands before a colon in a property's docstring for its type.
    GoogleDocstring._consume_inline_attribute = _read_whole  # type: ignore[method-assign]  # noqa: SLF001
    app.connect("builder-inited", import_reference)
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-signature", simplify_signature)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("missing-reference", resolve_reference)
    app.connect("build-finished", write_openapi)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
