"""Every reason a user can read in a condition, in one place."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """One CamelCase word for why a condition has its status."""

    # Answered.
    SOLVED = "Solved"
    """An answer was found for everything that was asked."""
    BEST_SO_FAR = "BestSoFar"
    """The search was cut off (time-out or a dead worker); the best answer until then is served."""

    # Stalled: the spec must change first.
    INVALID_SPEC = "InvalidSpec"
    """A field of spec is wrong; the message names it."""
    INVALID_DATA = "InvalidData"
    """A field of the data is wrong; the message names its path."""
    UNPLACEABLE = "Unplaceable"
    """An item or task fits nowhere; the partial result names it."""
    TIMED_OUT = "TimedOut"
    """`timeoutSeconds` passed before there was any answer."""
    SOLVER_CRASHED = "SolverCrashed"
    """The worker died several times in a row without an answer."""
    RESULT_TOO_LARGE = "ResultTooLarge"
    """Even compressed, the result fits no ConfigMap."""

    # Waiting: tried again without a change of the spec.
    SOLVING = "Solving"
    """A worker is at it."""
    DATA_NOT_FOUND = "DataNotFound"
    """The ConfigMap, or its key, is not there yet."""
    NO_PLUGIN = "NoPlugin"
    """No enabled plugin can handle the request."""
    NOT_ENOUGH_DATA = "NotEnoughData"
    """The history is too short to learn from."""
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    """The source of the data did not answer."""
    FORBIDDEN = "Forbidden"
    """The operator may not read, or write, what the request needs."""
    HISTORY_UNAVAILABLE = "HistoryUnavailable"
    """Earlier answers cannot be written to the history, and the status has no room for another."""
    WORKER_DIED = "WorkerDied"
    """The worker died before any answer; another will try."""

    # Of plugins.
    RUNNING = "Running"
    """The plugin can be asked."""
    DISABLED = "Disabled"
    """`spec.enabled` is false."""
    STARTING = "Starting"
    """The plugin is being loaded and initialised."""
    UPDATING = "Updating"
    """The plugin answers as before until what the spec has now is loaded and initialised."""
    INVALID_CONFIG = "InvalidConfig"
    """The plugin's own schema rejects `spec.config`; the message names the field."""
    LOAD_FAILED = "LoadFailed"
    """The plugin's class cannot be imported, made or initialised."""
    PLUGIN_UNAVAILABLE = "PluginUnavailable"
    """The plugin host, or the plugin's Service, does not answer."""
    CRASH_LOOPING = "CrashLooping"
    """The plugin failed several times in a row and is left out for a while."""
    TRAINED = "Trained"
    """The model that answers is trained."""
    SHADOW = "Shadow"
    """A trained model is asked and scored, and not served."""
    TRAINING = "Training"
    """A model is being trained."""
    TRAINING_FAILED = "TrainingFailed"
    """The last training ended in an error or took too long."""
    NO_MODEL = "NoModel"
    """The plugin has nothing to train."""

    # Neither.
    SUSPENDED = "Suspended"
    """`spec.suspend` is true."""


WAITING = frozenset(
    {
        Reason.DATA_NOT_FOUND,
        Reason.NO_PLUGIN,
        Reason.NOT_ENOUGH_DATA,
        Reason.SOURCE_UNAVAILABLE,
        Reason.FORBIDDEN,
        Reason.HISTORY_UNAVAILABLE,
        Reason.WORKER_DIED,
    }
)
"""Reasons to try again by itself: nothing in the spec is wrong."""
