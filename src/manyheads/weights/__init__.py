"""Fetching and converting of published weights.

Networks read the converted weights by ``encoders.published``. The code that makes them is apart from it: DVC watches
``encoders/`` and would train again after a change in it.
"""
