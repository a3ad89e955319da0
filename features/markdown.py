"""Tables in Markdown, for the pages that are generated."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a line for each row.

    >>> print(markdown_table(["signal", "unit"], [["spo2", "%"]]), end="")
    | signal | unit |
    | --- | --- |
    | spo2 | % |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
