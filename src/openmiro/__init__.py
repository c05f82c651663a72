"""Multi-reward conditioned text-to-image pretraining, from raw shard to steered picture."""
