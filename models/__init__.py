"""Risk models: training, evaluation, promotion, storage, monitoring and explanation."""
