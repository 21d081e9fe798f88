"""Events of an experiment: what is done to a cluster while it is measured, when all has followed, and the way back."""
