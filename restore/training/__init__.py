"""Training: the loop, objectives, optimizers, schedules, moving averages, checkpoints and what is shown meanwhile."""
