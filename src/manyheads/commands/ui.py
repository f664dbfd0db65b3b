"""UI: serve the MLflow UI and print the address of the runs, the best first."""

from __future__ import annotations

import sys

from manyheads.commands import parsers
from manyheads.config.loading import read_params
from manyheads.errors import MachineError
from manyheads.paths import project_root
from manyheads.runtime import ports
from manyheads.tracking import by_id, server, views
from manyheads.tracking.store import tracking_uri


def main(arguments: list[str]) -> None:
    """Print the address of the project's runs in the MLflow UI, and serve the UI until Ctrl-C.

    If MLFLOW_TRACKING_URI is the address of a server, its UI has the runs, and nothing is served.
    """
    options = parsers.ui().parse_args(arguments)
    root = project_root()
    params = read_params(root / "params.yaml")
    remote = tracking_uri(root).startswith(("http://", "https://"))
    if not remote:
        ports.bound(server.HOST, options.port, "python -m manyheads ui").close()
    page = by_id.page_by_score(root, params.tracking.experiment, params.data.title)
    if not page:
        raise MachineError("the record of runs cannot be opened: see the warning above")
    address = f"{views.ui_address(root, options.port)}{page}"
    if remote:
        print(address)
        return
    print("starting the MLflow UI ...", file=sys.stderr, flush=True)
    with server.serving(root, options.port) as wait:
        print(f"{address}\n(Ctrl-C stops it)", flush=True)
        try:
            status = wait()
        except KeyboardInterrupt:
            return
    if status:
        raise MachineError(f"the MLflow server ended with status {status}: see {root / '.cache/ui.log'}")
