"""Subscriptions and deliveries in Cosmos DB."""
