"""`infoseg data …`: what is there of the data sets; official files, and stand-ins of them."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

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
    data = commands.add_parser("data", help="raw files and prepared data sets: check, fetch, fake")
    verbs = data.add_subparsers(dest="verb", required=True, metavar="WHAT")

    add = partial(add_command, verbs)
    check = add(
        "check",
        "say what is there of every data set, and whether it is whole",
        [common],
        "For every data set of the profile: missing (and what to do), present, corrupt (which\n"
        "file), outdated or prepared (counts, class shares, disk used). Reads every prepared\n"
        "byte. Writes a contact sheet of 24 images with their labels for each that is prepared.\n"
        "The exit status is 0 if all are prepared.",
    )
    check.add_argument(
        "--sheets",
        type=Path,
        metavar="FOLDER",
        help="for the contact sheets; default: runs/<profile>/sheets",
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
    fake = add(
        "fake",
        "write stand-ins of the official files, to rehearse a preparation",
        [],
        "Write random stand-ins of COCO, COCO-Stuff, IIC's lists and Potsdam: the same numbers of\n"
        "files, sizes and layouts, no network. Prepare them with\n"
        "  INFOSEG_RAW=OUT infoseg prepare --profile rehearsal",
    )
    fake.add_argument("out", type=Path, metavar="OUT", help="a folder that is not there yet")
    fake.add_argument(
        "--scale", type=float, default=1.0, help="share of the official counts (default 1.0)"
    )
    fake.add_argument("--trees", action="store_true", help="unpacked, instead of as archives")
    fake.add_argument("--seed", type=int, default=0, help="random seed (default 0)")


def run_fake(options: argparse.Namespace) -> int:
    from infoseg.data.fake import write_fake

    try:
        made = write_fake(
            options.out,
            scale=options.scale,
            seed=options.seed,
            archives=not options.trees,
            progress=True,
        )
    except ValueError as error:
        raise DataError(str(error)) from None
    print(f"{options.out}: {made}")
    return 0


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

    from infoseg.data.check import check_data, format_status, write_contact_sheet
    from infoseg.data.store import load_prepared

    found = check_data(project, raw_problem=project.raw_problem, progress=True)
    print(visible(format_status(found)))
    folder = options.sheets or project.runs / "sheets"
    for one in found:
        if one.state == "prepared":
            print(write_contact_sheet(load_prepared(one.folder), folder / f"{one.dataset}.png"))
    return 0 if all(one.state == "prepared" for one in found) else 1
