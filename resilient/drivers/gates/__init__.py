"""What lets calls through, or not: one module for each policy that does, and what they have in common."""
