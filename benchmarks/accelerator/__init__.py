"""One benchmark for a real card (`__main__.py`), also where few packages are installed."""

from benchmarks.accelerator.bare import stand_in

stand_in()  # before anything imports the package
