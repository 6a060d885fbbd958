from __future__ import annotations

from noria.base.errors import Conflict, Invalid, NotFound, Refused


class ExperimentNotFound(NotFound):
    """There is no such experiment."""

    code = "experiment_not_found"


class ExperimentExists(Conflict):
    """The name is taken."""

    code = "experiment_exists"


class ExperimentDeleted(Conflict):
    """An experiment is in the bin, or is not in it where it should be."""

    code = "experiment_deleted"

    def __init__(self, name: str, *, deleted: bool) -> None:
        where = "is in the bin" if deleted else "is not in the bin"
        super().__init__(
            f"The experiment {name!r:.100} {where}.",
            hint="Restore it first." if deleted else "Only what is in the bin can be restored.",
        )


class RunDeleted(Conflict):
    """A run is in the bin."""

    code = "run_deleted"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The run {run_id} is in the bin.", hint=f"noria runs restore {run_id}")


class TagNotFound(NotFound):
    """There is no such tag."""

    code = "tag_not_found"


class ParamChanged(Conflict):
    """A parameter was logged before with another value."""

    code = "param_changed"

    def __init__(self, run_id: str, key: str, before: str, after: str) -> None:
        super().__init__(
            f"The parameter {key!r} of run {run_id} is {before!r:.100} and cannot become {after!r:.100}.",
            hint="Log it under another name, or in another run: parameters say what a run was started with.",
            details={"run_id": run_id, "key": key, "before": before, "after": after},
        )


class KeyInvalid(Invalid):
    """The name of a metric, parameter or tag is not allowed."""

    code = "key_invalid"


class ArtifactNotFound(NotFound):
    """There is no such file."""

    code = "artifact_not_found"

    def __init__(self, kind: str, owner: str, path: str) -> None:
        super().__init__(f"The {kind} {owner} has no artifact {path!r:.300}.", hint="List what is there.")


class ArtifactIsFolder(Invalid):
    """A folder is there, where a file was asked for."""

    code = "artifact_is_folder"

    def __init__(self, path: str) -> None:
        super().__init__(f"The artifact {path!r:.300} is a folder, not a file.", hint="Name one file, or list it.")


class ArtifactInTheWay(Conflict):
    """A path would be a file and a folder at once."""

    code = "artifact_in_the_way"

    def __init__(self, path: str, *, is_folder: bool) -> None:
        what = "a folder" if is_folder else "a file"
        super().__init__(
            f"{path!r:.300} is {what} among these artifacts.", hint="Choose another name, or delete it first."
        )


class ArtifactPathInvalid(Invalid):
    """The path of a file is not allowed."""

    code = "artifact_path_invalid"


class LoggedModelNotFound(NotFound):
    """There is no such logged model."""

    code = "logged_model_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Logged model with ID {id!r:.100} not found.")


class LoggedModelInvalid(Invalid):
    """A part of a logged model is not allowed."""

    code = "logged_model_invalid"


class RunPurged(Conflict):
    """What a run said was deleted for good."""

    code = "run_purged"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"What the run {run_id} said was deleted for good, or is being deleted.",
            hint="Only its row is left, since something else names it.",
        )


class NotInBin(Conflict):
    """Only what is in the bin is deleted for good."""

    code = "not_in_bin"

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"The run {run_id} is not in the bin.", hint=f"noria runs delete {run_id}   first, or purge it with --now"
        )


class RunUnended(Conflict):
    """A run that noria executes cannot be deleted for good before it ends."""

    code = "run_unended"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The run {run_id} is still at work.", hint="Wait for its end, or stop it.")


class QuotaReached(Refused):
    """A limit of the project is reached."""

    code = "quota_reached"

    def __init__(self, what: str, most: int, text: str) -> None:
        super().__init__(
            text,
            hint=f"noria admin quota {what} MORE   raises it; noria runs purge   makes room.",
            details={"what": what, "most": most},
        )


class ArtifactsFixed(Conflict):
    """The files of a version never change."""

    code = "artifacts_fixed"

    def __init__(self, id: str) -> None:
        super().__init__(f"The files of version {id:.60} never change.", hint="Log a new model.")


class UploadNotFound(NotFound):
    """There is no such open upload."""

    code = "upload_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"There is no open upload {id!r:.80}.", hint="Begin it anew; an upload is kept for a day.")


class UploadIncomplete(Invalid):
    """A part of an upload is missing, or is another one than the request names."""

    code = "upload_incomplete"
