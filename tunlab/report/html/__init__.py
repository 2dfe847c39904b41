"""report.html: a run as one file that a browser opens without a network, made of what the run's folder holds."""
