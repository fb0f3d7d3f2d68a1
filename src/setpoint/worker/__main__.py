"""``python -m setpoint.worker``: started by a node, never by a person."""

import sys

if __name__ == "__main__":  # a model's multiprocessing imports its parent's main module
    verb, *arguments = sys.argv[1:]
    if verb == "fork":
        from setpoint.worker.fork_server import main as fork_workers

        sys.exit(fork_workers(*map(int, arguments)))
    from setpoint.worker.process import main

    sys.exit(main(arguments))
