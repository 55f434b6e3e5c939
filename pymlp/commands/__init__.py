"""The commands of ``pymlp``: one module each, with ``add_parser(commands)`` and ``run(arguments)``.

A module imports what is slow to import (scikit-learn, tqdm) when its command runs, so that ``--help`` and the commands
that need neither stay quick and work without them.
"""
