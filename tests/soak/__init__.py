"""Long-running tests, started by ``make soak`` (:mod:`tests.soak.__main__`). Short forms of them run in ``make test``."""
