"""What the commands show: pure functions from plans and states to text, data and pictures."""
