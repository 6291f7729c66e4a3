"""One benchmark for a real card; see `__main__.py`."""
