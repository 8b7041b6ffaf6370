"""Studies, one file each: long runs that print tables and draw plots for docs/results."""
