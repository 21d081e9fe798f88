"""The forms in which a change to an object can be sent."""
