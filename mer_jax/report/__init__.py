"""A run's results: the html report, the last lines at the terminal, the csv files to submit."""
