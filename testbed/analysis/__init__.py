"""Statistics, figures and reports of a run: made from its stored results alone, never from a network."""
