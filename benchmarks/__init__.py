"""Speed and memory against named peers: each script prints a table and, last, one line of JSON."""
