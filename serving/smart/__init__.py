"""SMART Backend Services: clients prove who they are with their own keys, and get tokens of a few minutes."""
