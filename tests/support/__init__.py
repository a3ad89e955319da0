"""What tests share: simulated wards, servers within the process, tokens, and homes of earlier versions."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]  # of the repository
HOMES: Final = Path(__file__).parent / "homes"  # made by earlier versions
