"""Who asks, what they may read, and the platform's names."""
