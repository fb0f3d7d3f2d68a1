"""Any HTTP server: POST the user's bodies to the URL. Only the status is judged."""

from __future__ import annotations

from urllib.parse import SplitResult

from setpoint.core import InvalidConfiguration
from setpoint.plan.load.targets.asking import try_once
from setpoint.plan.load.targets.data import read_lines
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.posts import JSON, Posts, anything, make_posts


def target(url: SplitResult, options: RequestOptions) -> Posts:
    """Prepare the user's requests.

    Raises:
        SetpointError: there are none, or the server does not take them.
    """
    if options.body is not None:
        bodies = [options.body]
    elif options.data is not None and options.data.suffix != ".npz":
        bodies = read_lines(options.data)
    else:
        raise InvalidConfiguration(
            f"{url.geturl()} is neither …/v2/models/NAME nor a route in the server's /openapi.json:"
            " say what to POST with --body TEXT, --body @FILE or --data FILE.jsonl"
        )
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"content-type": JSON, **options.headers}
    try_once(url, path, bodies[0], headers)
    return make_posts("HTTP", url, path, bodies, headers, anything)
