"""`medgrit`: make conversations from pictures, train BiRD on them, and measure it.

One command per file in `commands/`; this only gathers them.
"""

from __future__ import annotations

import typer

from bird_training.commands.build import EPILOG as BUILD
from bird_training.commands.build import build_command
from bird_training.commands.evaluate import EPILOG as EVALUATE
from bird_training.commands.evaluate import evaluate
from bird_training.commands.predict import EPILOG as PREDICT
from bird_training.commands.predict import predict
from bird_training.commands.pretrain import EPILOG as PRETRAIN
from bird_training.commands.pretrain import pretrain
from bird_training.commands.train import EPILOG as TRAIN
from bird_training.commands.train import train
from bird_vlm.console import plain_errors

app = typer.Typer(
    help="Make conversations from pictures with masks, train BiRD on them, and measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("build", epilog=BUILD)(plain_errors(build_command))
app.command(epilog=PRETRAIN)(plain_errors(pretrain))
app.command(epilog=TRAIN)(plain_errors(train))
app.command(epilog=PREDICT)(plain_errors(predict))
app.command(epilog=EVALUATE)(plain_errors(evaluate))

if __name__ == "__main__":
    app()
