"""What a task runs on its node."""
