"""``make bench``: how fast it is, each number beside what it is compared with. Not needed in production."""
