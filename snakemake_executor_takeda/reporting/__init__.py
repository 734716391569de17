"""What a run tells when it is over."""
