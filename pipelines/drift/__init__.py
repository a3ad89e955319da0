"""Drift: do the data and predictions of today still look like those the champion learned from? The only user of Evidently."""
