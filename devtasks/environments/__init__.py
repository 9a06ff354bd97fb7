"""The environment of the project under test: found, made once with uv, shared by the runs that need the same."""

from devtasks.environments.description import Description, describe
from devtasks.environments.making import ProjectEnvironment, project_environment

__all__ = ["Description", "ProjectEnvironment", "describe", "project_environment"]
