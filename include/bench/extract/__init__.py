"""Extraction beside the libraries that do the same: ``python -m include.bench.extract``."""
