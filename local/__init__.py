"""The local host: runs `function_app.py` on a developer's machine, without Azure. It is not deployed."""
