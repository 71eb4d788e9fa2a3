"""`main`: parse, run, and end with one line and an exit code whatever happens."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError
from cyclopts.exceptions import UnknownCommandError

from kinema.cli import benchmarks as _benchmarks  # noqa: F401 - it adds its commands to the app
from kinema.cli import chaining as _chaining  # noqa: F401 - it adds its command to the app
from kinema.cli import converting as _converting  # noqa: F401 - it adds its commands to the app
from kinema.cli import curation as _curation  # noqa: F401 - it adds its commands to the app
from kinema.cli import exchange as _exchange  # noqa: F401 - it adds its commands to the app
from kinema.cli import judging as _judging  # noqa: F401 - it adds its commands to the app
from kinema.cli import making as _making  # noqa: F401 - so does this one
from kinema.cli import preparing as _preparing  # noqa: F401 - and this one
from kinema.cli import rendering as _rendering  # noqa: F401 - it adds its commands to the app
from kinema.cli import studio as _studio  # noqa: F401 - so does this one
from kinema.cli import training as _training  # noqa: F401 - it adds its command to the app
from kinema.cli.commands import app
from kinema.cli.terminal import tell
from kinema.errors import Interrupted, KinemaError

DONE, INCOMPLETE, REFUSED, STOPPED = 0, 1, 2, 130
"""0 done; 1 done, but something asked for was not produced (also Python's code for a bug, with a traceback);
2 bad input, config or output folder; 130 stopped by Ctrl-C, in a state from which the run goes on."""

GO_ON = {
    "curate": "run the same command again: finished sources are not read again",
    "caption": "run the same command again: captioned clips are not asked about again",
    "cache": "run the same command again: what is encoded is not encoded again",
    "train": "run the same command with --resume",
    "chain": "run the same command again: it goes on with the run it was at",
    "ablate": "run the same command again: it goes on with the model it was at",
    "generate": "run the same command again: files that are finished are not made again",
}


# OpenMP's threads wait for each other in a busy loop. On a machine that does anything else besides, that
# made a training step forty times slower; after so many turns they now sleep. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Errors of the outside world are one line on stderr."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    command = tokens[0] if tokens else ""
    try:
        return app(tokens, exit_on_error=False, print_error=False) or DONE
    except CycloptsError as error:
        if isinstance(error, UnknownCommandError) or command not in app:
            command = ""
        return _refuse(
            f"{str(error).rstrip('.')}; see: {' '.join(['kinema', *filter(None, [command]), '--help'])}"
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        _say(
            "kinema: " + (str(stop) or f"stopped; {GO_ON.get(command, 'nothing that was finished is lost')}")
        )
        return STOPPED
    except KinemaError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        # Whoever read stdout has gone. Point it elsewhere, or Python complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except OSError as error:
        return _refuse(_outside(error))


def _say(line: str) -> None:
    """On stderr, unless this is one of several processes, whose launcher says it once for all."""
    if "KINEMA_LAUNCHED" not in os.environ:
        tell(line)


def _refuse(message: str) -> int:
    _say("kinema: error: " + " ".join(message.split()))
    return REFUSED


def _outside(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = (
        "free some space or choose another folder" if full else "check that the path exists and can be used"
    )
    return f"{name}{error.strerror or error}; {mend}"
