"""Short scripts that show one thing each: ``python -m pymlp.examples.NAME [--save PATH]``.

Each prints a table and draws a picture, and gives the same every time.
"""
