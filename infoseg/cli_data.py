"""`infoseg data …`: what is there of the data sets, and their official files."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from infoseg.errors import DataError, visible


def add_command(commands, name: str, help: str, parents: list[argparse.ArgumentParser], text: str):
    """Add a command whose description is printed as it is written."""
    return commands.add_parser(
        name,
        help=help,
        description=text,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_commands(commands, common: argparse.ArgumentParser) -> None:
    """Add `data` and its commands to the command line's."""
    data = commands.add_parser("data", help="raw files and prepared data sets: check, fetch")
    verbs = data.add_subparsers(dest="verb", required=True, metavar="WHAT")

    add = partial(add_command, verbs)
    add(
        "check",
        "say what is there of every data set, and whether it is whole",
        [common],
        "For every data set of the profile: missing (and what to do), present, corrupt (which\n"
        "file), outdated or prepared (counts, class shares, disk used). Reads every prepared\n"
        "byte. The exit status is 0 if all are prepared.",
    )
    fetch = add(
        "fetch",
        "find or download the raw files, as the stages data@… do",
        [common],
        "Find the raw files in the folder that INFOSEG_RAW names, download what is missing and\n"
        "may be downloaded (resumed after an interruption, verified), or render the demo's.\n"
        "The other sources go on when one fails.",
    )
    fetch.add_argument("sources", nargs="*", help="keys under `sources`; default: the profile's")


def run_with_project(options: argparse.Namespace, project) -> int:
    """`check` and `fetch`; returns the exit status."""
    if options.verb == "fetch":
        failed = 0
        for source in options.sources or project.params.profile.sources:
            try:
                print(f"{source}: {project.make_raw(source)}")
            except DataError as error:
                print(f"infoseg: {source}: {error}", file=sys.stderr)
                failed = 1
        return failed

    from infoseg.data.check import check_data, format_status

    found = check_data(project, raw_problem=project.raw_problem, progress=True)
    print(visible(format_status(found)))
    return 0 if all(one.state == "prepared" for one in found) else 1
