"""What takes long: ``make soak`` (:mod:`tests.soak.__main__`). A little of each is in ``make test``."""
