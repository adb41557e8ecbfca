"""The console scripts, thin."""
