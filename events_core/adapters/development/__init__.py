"""Stand-ins for neighbour services, read from files. A deployment never uses them."""
