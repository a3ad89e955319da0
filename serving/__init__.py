"""The prediction API: it translates between the outside and the model, and decides nothing."""
