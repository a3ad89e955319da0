"""Jobs: sources, ingest, features, training, evaluation, prediction, drift, and the `vigil` command."""
