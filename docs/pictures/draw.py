"""Draw the diagrams of the docs as pictures for the site, which runs no scripts of others: ``make pictures``.

It needs npx, which fetches mermaid's own command line, and chromium. Each picture is named by the digest of its diagram, so the
site never shows an old one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PICTURES: Final = Path(__file__).parent
sys.path.insert(0, str(PICTURES.parent))

from site_extension import DIAGRAM, name_picture  # noqa: E402 - found by the path above

_TOOL: Final = ("npx", "--yes", "@mermaid-js/mermaid-cli", "--quiet", "--theme", "neutral", "--input", "-")
_LABELS: Final = {"htmlLabels": False, "flowchart": {"htmlLabels": False, "wrappingWidth": 320}}


def main() -> None:
    """Draw what has no picture, and delete pictures of diagrams that are gone."""
    diagrams = [match[1] for page in sorted(PICTURES.parent.glob("*.md")) for match in DIAGRAM.finditer(page.read_text())]
    wanted = {name_picture(diagram): diagram for diagram in diagrams}
    for picture in PICTURES.glob("*.svg"):
        if picture.name not in wanted:
            picture.unlink()
    with tempfile.TemporaryDirectory() as folder:
        labels, browser = Path(folder) / "labels.json", Path(folder) / "browser.json"
        labels.write_text(json.dumps(_LABELS))
        # The browser shows these diagrams only, so it needs no sandbox, which a container would not allow.
        browser.write_text(json.dumps({"executablePath": shutil.which("chromium"), "args": ["--no-sandbox"]}))
        for name, diagram in wanted.items():
            if not (PICTURES / name).exists():
                command = [*_TOOL, "--configFile", labels, "--puppeteerConfigFile", browser, "--output", PICTURES / name]
                subprocess.run(command, input=diagram, text=True, check=True)  # noqa: S603 - the tool above


if __name__ == "__main__":
    main()
