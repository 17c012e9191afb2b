"""Profile, contract and cleaning: pure functions of a frame."""
