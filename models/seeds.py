"""Seeds: one number from which every random draw of training and evaluation starts."""

from typing import Final

SEED: Final = 2026
