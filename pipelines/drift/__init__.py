"""Drift: whether the data and predictions of today still resemble those the champion learned from."""
