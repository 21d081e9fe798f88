"""The Mininet part: the plan of wires and routes, and the builder that makes it so inside a sealed box."""
