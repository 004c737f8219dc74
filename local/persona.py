"""The synthetic end user that the samples and the commands speak of."""

USER = 20012345
PARTY = 50002108
"""The party that the user represents: a person in register.json."""
