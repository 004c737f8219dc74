"""Code that every area uses: errors, the clock, traces, and work that requests share."""
