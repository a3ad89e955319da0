"""Readings of the simulated ward without the mistakes of staff."""

import pandas as pd


def without_mistakes(observations: pd.DataFrame) -> pd.DataFrame:
    """Return the newest version of each reading, without those that were retracted."""
    messages = observations.groupby("message_id")
    is_retracted = (observations["status"] == "retracted").groupby(observations["message_id"]).transform("any")
    return observations[(observations["version"] == messages["version"].transform("max")) & ~is_retracted]
