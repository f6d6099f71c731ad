"""Architecture search: spaces, strategies, scores without training, tables, and honest baselines beside them."""
