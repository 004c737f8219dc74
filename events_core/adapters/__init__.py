"""Adapters implement the ports on real technology. Only `compose` and `app` import them."""
