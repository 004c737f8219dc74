"""Adapters: the ports of events_core.ports on real technology. Imported by events_core.app alone."""
