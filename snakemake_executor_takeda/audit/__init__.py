"""What a run did, so that it can be checked afterwards: the chain of events, histories, RO-Crates."""
