"""What a person asks on the command line: why a verdict was made, and what another policy would have done."""
