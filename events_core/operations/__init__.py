"""What an operator needs: measurements, health, and the work of timers and queues."""
