"""The options of `probe head`, by what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DENSE, LOGISTIC, OTHERS = (
    "--head dense",
    "--head path, logistic",
    "--head ridge, prototype, knn",
)
CHOOSING, CURVE = "Choosing, and how sure it is", "Learning curve"
TWO = "Two classes"

Entry = Annotated[
    str | None,
    typer.Argument(help="A cache entry or the start of its name.", show_default="the newest"),
]
Solver = Annotated[
    str,
    typer.Option(
        "--head", metavar="NAME",
        help="dense (Gluon layers), path (logistic regression, fast), logistic (scikit-learn's), "
        "ridge, prototype or knn.",
    ),
]  # fmt: skip
Normalize = Annotated[
    str | None,
    typer.Option(
        help="standard, l2 or none; learnt from training rows only.",
        show_default="l2 for knn, else standard",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1,
        help="Fits of scikit-learn's solver at a time, one thread each.",
        show_default="all cores",
    ),
]  # fmt: skip
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="What the process may take, as 1GB or 2GiB: features that do not fit stay "
        "in their file and are read as needed.",
        show_default="as much as the features take",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="CACHE/runs/ID")]

ValSize = Annotated[
    float | None,
    typer.Option(
        min=0, rich_help_panel=CHOOSING,
        help="Part of the training rows held out, a fraction or a number; 0 trains on all.",
        show_default="0.3; 0 with --folds",
    ),
]  # fmt: skip
Folds = Annotated[
    int,
    typer.Option(
        min=0, rich_help_panel=CHOOSING,
        help="Choose, or only measure, by so many stratified folds instead of validation rows.",
    ),
]  # fmt: skip
Repeats = Annotated[
    int, typer.Option(min=1, rich_help_panel=CHOOSING, help="Draw the folds so many times.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=CHOOSING,
        help="dense: fit each candidate with so many seeds, choose by their mean.",
        show_default="1",
    ),
]  # fmt: skip
Metric = Annotated[
    str,
    typer.Option(
        rich_help_panel=CHOOSING,
        help="What the choice goes by: top1, balanced_accuracy, macro_f1, auc or log_loss.",
    ),
]
SampleWeight = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="path, logistic, ridge, prototype: a column of the list with what each image counts "
        "in the fit, from 0. Choices, temperature and figures count every image once.",
        show_default="all count alike",
    ),
]
Refit = Annotated[
    bool | None,
    typer.Option(
        "--refit/--no-refit", rich_help_panel=CHOOSING,
        help="Fit again on train + val at the end; test is that head's.",
        show_default="where something was chosen, from 20 images a class on",
    ),
]  # fmt: skip
Ensemble = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=CHOOSING,
        help="average or vote: the final head is those of all folds together.",
    ),
]

Positive = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=TWO, help="The class whose precision, recall and areas are told.",
        show_default="the second class",
    ),
]  # fmt: skip
Recall = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=TWO,
        help="Choose the highest threshold that finds this share of the positive class, as 0.95, "
        "at a confidence of 95 % by held-out rows; the bundle answers by it.",
        show_default="what is more probable",
    ),
]

Cost = Annotated[
    str | None,
    typer.Option(
        metavar="FP:FN", rich_help_panel=TWO,
        help="What a false positive and a false negative cost, as 1:5: choose the threshold whose "
        "answers cost least on held-out rows; the bundle answers by it. Not with --recall.",
    ),
]  # fmt: skip

Curve = Annotated[
    str | None,
    typer.Option(
        "--learning-curve", metavar="5,10,20", rich_help_panel=CURVE,
        help="Images a class, as 5,10,20,50,100: fit on draws of so many too; where a grid was "
        "given, each draw chooses by folds of its own, or has the default where it is too small.",
    ),
]  # fmt: skip
Draws = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=CURVE, help="Draws of each size.", show_default="5"),
]

Epochs = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=DENSE, help="Passes over the training rows.", show_default="50"
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", "-b", min=1, rich_help_panel=DENSE, help="Rows a step.", show_default="256"
    ),
]
OptimizerName = Annotated[
    str | None,
    typer.Option("--optimizer", rich_help_panel=DENSE, help="adam or sgd.", show_default="adam"),
]
Lr = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DENSE,
        help="Step size; several with commas, or `grid` for 13, are trained at once, the best is "
        "taken.",
        show_default="0.001 for adam, 0.01 for sgd",
    ),
]
Wd = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DENSE,
        help="Weight decay, not on biases; several, or `grid` for 4, as with --lr.",
        show_default="0",
    ),
]
Momentum = Annotated[
    float | None, typer.Option(rich_help_panel=DENSE, help="Of sgd.", show_default="0.9")
]
Schedule = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DENSE,
        help="How the step size falls: constant, cosine, or step (a tenth at 1/2 and 3/4).",
        show_default="constant",
    ),
]
Hidden = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DENSE, help="Units of hidden ReLU layers, as 256 or 256,128.",
        show_default="none",
    ),
]  # fmt: skip
Dropout = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=DENSE,
        help="Part of the hidden units, or else of the features, left out of a step.",
        show_default="0",
    ),
]
LabelSmoothing = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=DENSE, help="Part of each target spread over all classes.",
        show_default="0",
    ),
]  # fmt: skip
ClassWeight = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=DENSE, help="balanced: rows of rare classes count more.",
        show_default="none",
    ),
]  # fmt: skip
SamplingName = Annotated[
    Literal["shuffle", "balanced"] | None,
    typer.Option(
        "--sampling", rich_help_panel=DENSE,
        help="balanced draws rows so that classes are equally frequent; instead of --class-weight.",
        show_default="shuffle",
    ),
]  # fmt: skip
Patience = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=DENSE,
        help="Stop after so many epochs without a lower validation loss; keep the best.",
        show_default="never",
    ),
]  # fmt: skip

Penalty = Annotated[
    str | None,
    typer.Option(
        "--C", rich_help_panel=LOGISTIC,
        help="Inverse of the L2 penalty; several with commas, or `grid` for 45: the best top-1 is "
        "taken, and among those within one standard error of it the lowest calibrated log loss.",
        show_default="0.01",
    ),
]  # fmt: skip
MaxIter = Annotated[
    int | None,
    typer.Option(
        min=1, rich_help_panel=LOGISTIC, help="At most so many iterations.",
        show_default="300 for path, 1000",
    ),
]  # fmt: skip

Alpha = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=OTHERS,
        help="ridge: the L2 penalty a row; several, or `grid` for 33.",
        show_default="0.1",
    ),
]
Distance = Annotated[
    str | None,
    typer.Option(rich_help_panel=OTHERS, help="prototype: lda or mean.", show_default="lda"),
]
Shrinkage = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=OTHERS, help="prototype: of lda's covariance, 0 to 1.", show_default="0.1"
    ),
]
Neighbours = Annotated[
    str | None,
    typer.Option(
        "--k", rich_help_panel=OTHERS,
        help="knn: neighbours; several, or `grid` for 10, 20, 100 and 200.",
        show_default="20",
    ),
]  # fmt: skip
Temperature = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=OTHERS, help="knn: of the votes; low: the closest decide.",
        show_default="0.07",
    ),
]  # fmt: skip
