"""What a run would do, before it does: jobs, places, times, costs."""
