"""How many calls, seconds and how much memory thousands of blocks take: planned, applied on three controls, lifted."""
