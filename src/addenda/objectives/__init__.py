"""Training objectives, one file each: what a predicted token costs, in nats."""
