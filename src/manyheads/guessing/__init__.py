"""What ``python -m manyheads new`` makes of data that it has never seen: the text of a ``conf/data/NAME.yaml``.

No stage imports this package. It names kinds of heads and inputs as a person does who writes such a file.
"""
