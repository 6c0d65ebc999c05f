"""Every job's imports and first calls. A sweep's fork server does them once for all jobs; nothing here may start a thread."""

# ruff: noqa: F401

import gc
import io
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import hydra._internal.callbacks
import matplotlib.figure
import mlflow.store.artifact.local_artifact_repo
import mlflow.store.tracking.sqlalchemy_store
import numba
import sklearn.datasets

import inn_lab.__main__
import inn_lab.data.kernels
import inn_lab.identity
import inn_lab.linear.kernels
import inn_lab.runner
import inn_lab.studies.train
import inn_lab.tracking
import inn_lab.training.checkpoint
import inn_lab.training.module
import inn_lab.training.progress

(
    inn_lab.identity.commit(),
    inn_lab.identity.lab(),
)  # the code that was imported here is what the jobs run, whatever is edited meanwhile
numba.njit(lambda: 0)()  # numba gathers what it knows at the first function, matplotlib its fonts at the first picture
matplotlib.figure.Figure().savefig(io.BytesIO())
gc.freeze()  # what the jobs share stays shared: no collection touches it
