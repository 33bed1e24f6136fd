"""Values that are fetched again and again; the last good one stays in force."""
