"""The code on the node. It imports little: it runs once per task."""
