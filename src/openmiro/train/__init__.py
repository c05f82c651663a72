"""Training: loss, optimizers, schedules and the loop."""
