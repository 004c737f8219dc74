"""Subscriptions, lanes and deliveries in Cosmos DB."""
