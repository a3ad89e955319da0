"""The seed of every random draw of training and evaluation."""

from typing import Final

SEED: Final = 2026
