"""What of ours is in force at the controls: lifted at its end or by a person, and held against what the ledger says."""
