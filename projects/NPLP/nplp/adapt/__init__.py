"""One command from a folder of crops to a better model: settings from the data, the run, what it leaves."""
