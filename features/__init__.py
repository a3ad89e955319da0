"""Signals, observations, and the features computed from them. The lowest package: it imports none of the other three."""
