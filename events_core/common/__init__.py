"""What every area uses: errors, the clock, traces, and work that many requests share."""
