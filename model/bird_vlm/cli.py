"""`bird`: ask questions about a scan from the command line.

Puts the commands together; each has a file in `commands/`. An error that the user can mend is one
line and exit code 2.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bird_vlm.commands import convert, ground, models, preannotate, questions, serve, view
from bird_vlm.version import __version__

app = typer.Typer(
    help="Ask a scan where something is, and get boxes; give a box, and get its name.",
    epilog="Example: bird ground scan.nii.gz --text liver --text 'right kidney' --png boxes.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print it and leave.")] = False):
    """The callback that holds `--version`."""
    if version:
        print(f"bird {__version__}")
        raise typer.Exit


app.command(epilog=ground.EPILOG)(ground.ground)
app.command(epilog=questions.REFER_EPILOG)(questions.refer)
app.command(epilog=questions.ASK_EPILOG)(questions.ask)
app.command(epilog=preannotate.EPILOG)(preannotate.preannotate)
app.command(epilog=convert.EPILOG)(convert.convert)
app.command(epilog=serve.EPILOG)(serve.serve)
app.command(epilog=view.EPILOG)(view.view)
app.command(epilog=models.EPILOG)(models.models)


if __name__ == "__main__":
    app()
