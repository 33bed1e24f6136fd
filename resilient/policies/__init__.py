"""What users hold: frozen settings, and where a pattern needs it one small object of shared state."""
