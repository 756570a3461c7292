"""One job = stages in order: options and inputs to files and a report; batches, kept stages, replays, memory plans.

Used by the command line, by ``hy3dgen.generate`` and by services; knows nothing of parsers or terminals.
"""
