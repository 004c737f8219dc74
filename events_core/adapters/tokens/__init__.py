"""Verification of tokens, and the keys of their issuers."""
