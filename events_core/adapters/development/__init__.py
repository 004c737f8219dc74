"""Stand-ins for neighbours, read from files. Never used when deployed."""
