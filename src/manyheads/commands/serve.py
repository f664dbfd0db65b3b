"""Serve: answer samples over HTTP with a saved model, on a page and for programs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from manyheads.commands import parsers, saved_model
from manyheads.runtime import ports, tensorflow

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Serve a model until Ctrl-C or SIGTERM; what waits then is answered."""
    options = parsers.serve().parse_args(arguments)
    place = saved_model.find(options.model)
    card = place.card()
    with ports.bound(options.host, options.port, "python -m manyheads serve") as listener:
        if not ports.is_loopback(listener):
            logger.warning(
                "warning: whoever reaches %s may ask: there is no authentication and no TLS (docs/serving.md)",
                options.host,
            )
        print("loading the model ...", file=sys.stderr, flush=True)
        tensorflow.require_tensorflow()
        from manyheads.serving import server

        name = options.model if options.model and not Path(options.model).exists() else card.data
        try:
            server.serve(server.Model(name, place.folder, place.extensions, place.reports), listener)
        except KeyboardInterrupt:
            # uvicorn has answered what waited, and raises the signal again.
            return
