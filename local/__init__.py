"""The local host: runs function_app.py on a laptop with no Azure at all. Not deployed."""
