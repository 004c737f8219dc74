"""Subscriptions, and deliveries to their endpoints."""
