"""Callers, their rights, and the platform's names."""
