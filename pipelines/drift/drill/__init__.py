"""Drills: faults put into replays, to see whether they are found."""
