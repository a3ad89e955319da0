"""The routes of the API, a subject a file: each translates and decides nothing."""
