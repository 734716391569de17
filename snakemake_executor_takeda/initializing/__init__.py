"""`takeda init`: a profile from answers, flags, and what is found in the account."""
